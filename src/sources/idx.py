"""The IDX format of the MNIST files: two zero bytes, item type, number of axes, their lengths, the items.

Source: Yann LeCun's description of the MNIST database.
"""

import numpy as np

UINT8 = 0x08


def read_idx(content: bytes) -> np.ndarray:
    """Decode an IDX file of unsigned bytes, whose content is verified already, as a read-only uint8 array."""
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, offset=4).tolist()
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def write_idx(items: np.ndarray) -> bytes:
    """Encode a uint8 array as IDX, the inverse of `read_idx`."""
    return bytes([0, 0, UINT8, items.ndim]) + np.array(items.shape, ">u4").tobytes() + items.astype(np.uint8).tobytes()
