"""tools.predict on real files: hostile ones within 300 MB, many at once, and how well the real model reads photos."""

import io
import json
import re
import struct
import subprocess
from collections.abc import Callable
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
from tests.helpers import ROOT, environment, is_error, run
from tests.images import FONTS, encode, photo, png_of_size, printed
from tools.digit import extract_digit

PREDICT = ["python", "-m", "tools.predict"]
MEMORY = 300 * 2**20  # bytes beyond those of the process before it reads the file
SIDE = 5656  # pixels: an image of 32 million
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "cannot identify image file"),
    "text": (lambda: b"seven", "cannot identify image file"),
    "a GIF": (lambda: encode(printed(), "GIF"), "cannot identify image file"),
    "50,000 x 50,000": (lambda: png_of_size(50_000, 50_000, b"\0" * 50_001), "exceeds limit of"),
    "50,000 x 50,000, JPEG": (
        lambda: encode(printed(), "JPEG").replace(struct.pack(">HH", 300, 300), struct.pack(">HH", 50_000, 50_000)),
        "exceeds limit of",
    ),
    "truncated": (lambda: encode(printed(), "PNG")[:500], "truncated"),
    "too few pixels": (lambda: png_of_size(100, 100, b"\0" * 99), "truncated"),
    "animated": (lambda: encode(printed(), "PNG", save_all=True, append_images=[printed("1")]), "an animation"),
    "damaged EXIF": (lambda: encode(Image.new("L", (50, 50)), "PNG", exif=b"Exif\0\0II*\0"), ""),
    "blank": (lambda: encode(Image.new("L", (100, 100), 200), "PNG"), "nothing differs"),
    "one pixel": (lambda: encode(Image.new("L", (1, 1)), "PNG"), "nothing differs"),
    "the largest, transparent": (
        lambda: encode(Image.new("P", (SIDE, SIDE)), "PNG", transparency=0),
        "nothing differs",
    ),
    "the largest, progressive": (
        lambda: encode(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0),
        "nothing differs",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_an_error_within_300_mb(name: str, tmp_path: Path) -> None:
    create, message = HOSTILE[name]
    (tmp_path / "image.png").write_bytes(create())
    code = f"""
import resource
from pathlib import Path
from src.sources.image_file import read_image
from tools.digit import extract_digit
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY}, -1))
try:
    extract_digit(read_image(Path({str(tmp_path / "image.png")!r})))
except ValueError as error:
    print(f"refused: {{error}}")
"""
    done = run(["python", "-c", code], ROOT)
    assert done.stdout.startswith("refused: "), done.stderr
    assert message in done.stdout


def test_predict_classifies_valid_files_and_exits_with_1_for_invalid_ones(finished_clone: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(encode(printed("3"), "PNG"))
    bad.write_bytes(b"")
    done = run([*PREDICT, str(good), str(bad), str(good), "--json", "--top", "3"], finished_clone, check=False)
    assert is_error(done, "b.png cannot be read: cannot identify image file")
    first, again = json.loads(done.stdout)
    assert first == again
    assert first["image"] == str(good)
    assert len(first["top"]) == 3
    assert first["sure"] == (first["top"][0]["probability"] >= 0.9)
    piped = subprocess.run(
        [*PREDICT, "-"], cwd=finished_clone, env=environment(), input=good.read_bytes(), capture_output=True, check=True
    )
    assert f"-: {first['predicted']} ".encode() in piped.stdout


def count_agreement(digits: list[np.ndarray], expected: list[str]) -> int:
    """Return how many images the real model classifies as expected."""
    classifier, metadata = load_model(ROOT / "data/model/model.safetensors")
    log_probabilities = predict(classifier, np.stack(digits), torch.device("cpu"))
    predicted = [metadata.classes[index] for index in log_probabilities.argmax(dim=1).tolist()]
    return sum(name == other for name, other in zip(predicted, expected, strict=True))


@pytest.mark.real
@pytest.mark.parametrize("seed", [0, 1])
def test_99_percent_of_photographed_digits_are_classified_like_the_originals(
    seed: int, count: Callable[[str], None]
) -> None:
    test_set, random = load_split(ROOT / "data/prepared", "test"), np.random.default_rng(seed)
    predicted = pd.read_csv(ROOT / "metrics/predictions.csv", dtype=str)["predicted"]
    chosen = random.permutation(len(test_set))[:250]
    photos = (photo(test_set.images[index], random, dark=bool(random.integers(2))) for index in chosen)
    same = count_agreement([extract_digit(read_image(io.BytesIO(file))) for file in photos], list(predicted[chosen]))
    count(f"{same} of 250 photos of test digits are read as the digits themselves")
    assert same >= 248


@pytest.mark.real
def test_95_percent_of_printed_digits_are_classified_correctly(count: Callable[[str], None]) -> None:
    """22 fonts, dark on light and light on dark. The model has never seen printed digits."""
    names = [
        path.name
        for path in sorted(FONTS.glob("*.ttf"))
        if re.match(r"DejaVuS(ans|erif)(?!Display)|STIXGeneral|cm(b|mi|r|ss|ti|tt)10", path.name)
    ]
    colors = [("black", "white"), ("#eee", "#234")]
    cases = [(name, digit, ink, paper) for name in names for digit in "0123456789" for ink, paper in colors]
    images = (encode(printed(digit, 200, ink, paper, name), "PNG") for name, digit, ink, paper in cases)
    same = count_agreement(
        [extract_digit(read_image(io.BytesIO(file))) for file in images], [case[1] for case in cases]
    )
    count(f"{same} of {len(cases)} printed digits of {len(names)} fonts are read right")
    assert len(names) == 22
    assert same >= 0.95 * len(cases)
