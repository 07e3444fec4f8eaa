"""The IDX format, byte by byte."""

import numpy as np

from src.sources.idx import read_idx, write_idx

CONTENT = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 255])
ITEMS = [[10, 20, 30], [40, 50, 255]]


def test_idx_has_a_header_and_items() -> None:
    items = read_idx(CONTENT)
    assert (items.tolist(), items.dtype) == (ITEMS, np.uint8)
    assert write_idx(items) == CONTENT
