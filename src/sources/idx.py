"""The IDX format of the MNIST files: two zero bytes, type of the items, number of axes, their lengths, the items.

Source: Yann LeCun's description of the MNIST database.
"""

import math
import struct

import numpy as np

UNSIGNED_BYTE = 0x08


def read_idx(content: bytes, axes: int) -> np.ndarray:
    """Decode unsigned bytes with `axes` axes as a read-only uint8 array.

    Raises ValueError that says what is wrong. Nothing is allocated on the word of the header: the lengths it claims
    must multiply to exactly the bytes that follow.
    """
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"{len(content):,} bytes, fewer than the {start} of the header")
    magic, expected = content[:4].hex(), bytes([0, 0, UNSIGNED_BYTE, axes]).hex()
    if magic != expected:
        raise ValueError(f"magic number {magic}, expected {expected}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if math.prod(shape) != len(content) - start:
        claim = " x ".join(f"{length:,}" for length in shape)
        raise ValueError(f"the header claims {claim} bytes, but {len(content) - start:,} follow")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def write_idx(items: np.ndarray) -> bytes:
    """Encode a uint8 array of any number of axes; the inverse of `read_idx`."""
    header = bytes([0, 0, UNSIGNED_BYTE, items.ndim]) + struct.pack(f">{items.ndim}I", *items.shape)
    return header + items.astype(np.uint8, copy=False).tobytes()
