"""tools.predict on real files: hostile ones within 500 MB, and with the results of others."""

import struct
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.helpers import ROOT, is_error, run
from tests.images import encode, png_of_size

PREDICT = ["python", "-m", "tools.predict"]
MEMORY = 500 * 2**20  # bytes beyond those of the process before it reads a file
NOISE = Image.effect_noise((300, 300), 50)
LARGE = (5656, 5656)  # 32 million pixels
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "huge": (lambda: png_of_size(50_000, 50_000, b"\0" * 50_001), "exceeds limit of"),
    "huge JPEG": (
        lambda: encode(NOISE, "JPEG").replace(struct.pack(">HH", 300, 300), struct.pack(">HH", 50_000, 50_000)),
        "exceeds limit of",
    ),
    "truncated": (lambda: encode(NOISE, "PNG")[:500], "truncated"),
    "animated": (lambda: encode(NOISE, "PNG", save_all=True, append_images=[NOISE.rotate(90)]), "an animation"),
    "transparent": (lambda: encode(Image.new("P", LARGE), "PNG", transparency=0), "read"),
    "JPEG": (lambda: encode(Image.new("RGB", LARGE), "JPEG", progressive=True, subsampling=0), "read"),
}


def test_hostile_files_are_errors_within_500_mb(tmp_path: Path) -> None:
    for name, (create, _) in HOSTILE.items():
        (tmp_path / name).write_bytes(create())
    code = f"""
import os, resource
from pathlib import Path
from src.sources.image_file import load_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY}, -1))
for name in {list(HOSTILE)}:
    if not os.fork():
        try:
            load_image(Path({str(tmp_path)!r}, name), 28, 1, "pad")
            print("read", flush=True)
        except ValueError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
"""
    messages = run(["python", "-c", code], ROOT).stdout.splitlines()
    for (name, (_, expected)), message in zip(HOSTILE.items(), messages, strict=True):
        assert expected in message, name


def test_invalid_file_is_an_error_after_the_results_of_the_others(finished_clone: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(encode(NOISE, "PNG"))
    bad.write_bytes(b"")
    done = run([*PREDICT, str(bad), str(good)], finished_clone, check=False)
    assert is_error(done, "b.png cannot be read: cannot identify image file")
    assert done.stdout.startswith(f"{good}: ")
