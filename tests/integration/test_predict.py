"""tools.predict on real files: hostile ones within 300 MB, many at once, and how well the real model reads photos."""

import io
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from src.data.dataset import load_split
from src.models.inference import predict
from src.models.model_file import load_model
from src.sources.image_file import read_image
from tests.helpers import ROOT, is_error, run
from tests.images import FONTS, encode, photo, png_of_size, printed
from tools.digit import extract_digit

PREDICT = ["python", "-m", "tools.predict"]
MEMORY = 300 * 2**20  # bytes beyond those of the process before it reads a file
FONT = r"DejaVuS(ans|erif)(?!Display)|STIXGeneral|cm(b|mi|r|ss|ti|tt)10"
LARGE = (5656, 5656)  # 32 million pixels
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "huge": (lambda: png_of_size(50_000, 50_000, b"\0" * 50_001), "exceeds limit of"),
    "huge JPEG": (
        lambda: encode(printed(), "JPEG").replace(struct.pack(">HH", 300, 300), struct.pack(">HH", 50_000, 50_000)),
        "exceeds limit of",
    ),
    "truncated": (lambda: encode(printed(), "PNG")[:500], "truncated"),
    "animated": (lambda: encode(printed(), "PNG", save_all=True, append_images=[printed("1")]), "an animation"),
    "transparent": (lambda: encode(Image.new("P", LARGE), "PNG", transparency=0), "nothing differs"),
    "JPEG": (lambda: encode(Image.new("RGB", LARGE), "JPEG", progressive=True, subsampling=0), "nothing differs"),
}


def test_hostile_files_are_errors_within_300_mb(tmp_path: Path) -> None:
    for name, (create, _) in HOSTILE.items():
        (tmp_path / name).write_bytes(create())
    code = f"""
import os, resource
from pathlib import Path
from src.sources.image_file import read_image
from tools.digit import extract_digit
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY}, -1))
for name in {list(HOSTILE)}:
    if not os.fork():
        try:
            extract_digit(read_image(Path({str(tmp_path)!r}, name)))
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
    good.write_bytes(encode(printed("3"), "PNG"))
    bad.write_bytes(b"")
    done = run([*PREDICT, str(bad), str(good)], finished_clone, check=False)
    assert is_error(done, "b.png cannot be read: cannot identify image file")
    assert done.stdout.startswith(f"{good}: ")


def count_agreement(files: Iterable[bytes], expected: list[str]) -> int:
    """Return how many images the real model classifies as expected."""
    classifier, metadata = load_model(ROOT / "data/model/model.safetensors")
    digits = [extract_digit(read_image(io.BytesIO(file))) for file in files]
    indices = predict(classifier, np.stack(digits), torch.device("cpu")).argmax(dim=1).tolist()
    return sum(metadata.classes[index] == name for index, name in zip(indices, expected, strict=True))


@pytest.mark.real
def test_99_percent_of_photographed_digits_are_classified_like_the_originals() -> None:
    test_set, random = load_split(ROOT / "data/prepared", "test"), np.random.default_rng(0)
    predicted = pd.read_csv(ROOT / "metrics/predictions.csv", dtype=str)["predicted"]
    chosen = random.permutation(len(test_set))[:500]
    photos = (photo(test_set.images[index], random, dark=bool(random.integers(2))) for index in chosen)
    assert count_agreement(photos, list(predicted[chosen])) >= 495


@pytest.mark.real
def test_95_percent_of_printed_digits_are_classified_correctly() -> None:
    """22 fonts, dark on light and light on dark. The model has never seen printed digits."""
    fonts = [path.name for path in sorted(FONTS.glob("*.ttf")) if re.match(FONT, path.name)]
    colors = [("black", "white"), ("#eee", "#234")]
    cases = [(font, digit, *pair) for font in fonts for digit in "0123456789" for pair in colors]
    images = (encode(printed(digit, 200, ink, paper, font), "PNG") for font, digit, ink, paper in cases)
    assert count_agreement(images, [digit for _, digit, *_ in cases]) >= 0.95 * len(cases)
