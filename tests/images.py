"""Image files for tests, also PNG headers with a false size."""

import io
import struct
import zlib
from typing import Any

from PIL import Image


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def png_of_size(width: int, height: int, pixels: bytes, bits: int = 8, color: int = 0) -> bytes:
    """Return a PNG file whose header claims this size, whatever the length of `pixels`. Color 0 is gray, 2 is RGB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
