"""The IDX format, byte by byte."""

import numpy as np
import pytest

from src.sources.idx import read_idx, write_idx

CONTENT = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 20, 30, 40, 50, 255])
ITEMS = [[10, 20, 30], [40, 50, 255]]


def test_idx_has_a_header_and_items() -> None:
    items = read_idx(CONTENT)
    assert (items.tolist(), items.dtype) == (ITEMS, np.uint8)
    assert write_idx(items) == CONTENT


@pytest.mark.parametrize("content", [b"<html>", CONTENT[:7], CONTENT + b"\0", CONTENT.replace(b"\x08", b"\x0d")])
def test_read_idx_refuses_other_content(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"IDX|buffer|reshape"):
        read_idx(content)


def test_read_idx_allocates_nothing_for_a_header_that_claims_too_much() -> None:
    with pytest.raises(ValueError, match="reshape"):
        read_idx(CONTENT[:4] + b"\x7f\xff\xff\xff" + CONTENT[8:])
