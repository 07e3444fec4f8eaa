"""Photos of digits: form, hostile files, and how often the real model reads them as it reads the originals."""

import io
import json
import re
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from src.data.dataset import Dataset, load_dataset
from src.models.inference import predict
from src.models.model_file import load_model
from src.sources.image_file import read_image, to_digit
from tests.conftest import ROOT, environment, is_block, run

PREDICT = ["python", "-m", "tools.predict"]
FONTS = Path(mpl.get_data_path()) / "fonts/ttf"
MEMORY = 300 * 2**20  # bytes beyond what the process has when it starts to read


def photo(digit: np.ndarray, random: np.random.Generator, dark: bool = True) -> bytes:
    """A digit of MNIST as a camera could have it: large, off the centre, dark on bright, shaded, noisy, as JPEG."""
    side = int(random.integers(200, 700))
    ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), float) / 255
    top, right, bottom, left = (int(side * share) for share in random.uniform(0.05, 0.6, 4))
    ink = np.pad(ink, ((top, bottom), (left, right)))
    y, x = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]]
    slopes = random.uniform(-40, 40, 2)
    light = random.uniform(170, 230) + slopes[0] * x / ink.shape[1] + slopes[1] * y / ink.shape[0]
    grey = light * (1 - random.uniform(0.6, 0.9) * ink) + random.normal(0, 4, ink.shape)
    grey = np.clip(grey if dark else 255 - grey, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(file, "JPEG", quality=int(random.integers(60, 95)))
    return file.getvalue()


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG file that says it has that size, whatever it holds."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def resized(jpeg: bytes, side: int) -> bytes:
    """The same file, whose header says another size."""
    return jpeg.replace(struct.pack(">HH", 300, 300), struct.pack(">HH", side, side))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def glyph(
    text: str = "7", size: int = 300, ink: str = "black", paper: str = "white", font: str = "DejaVuSans.ttf"
) -> Image.Image:
    image = Image.new("RGB", (size, size), paper)
    drawing = ImageDraw.Draw(image)
    drawing.text((size / 2, size / 2), text, ink, ImageFont.truetype(str(FONTS / font), size // 2), anchor="mm")
    return image


@pytest.mark.parametrize("size", [28, 60, 300, 2000])
@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("white", "black"), ("#446", "#cba")])
def test_the_form_of_mnist(size: int, ink: str, paper: str) -> None:
    """White on black, 20 pixels high, its mass in the middle, of whatever size and colours."""
    digit = to_digit(read_image(io.BytesIO(saved(glyph("8", size, ink, paper), "PNG"))))
    assert (digit.shape, digit.dtype, digit.max()) == ((28, 28), np.uint8, 255)
    rows = digit.max(axis=1).nonzero()[0]
    assert rows[-1] - rows[0] + 1 == 20
    center = [(digit.sum(axis=1 - axis) * np.arange(28)).sum() / digit.sum() for axis in (0, 1)]
    assert np.abs(np.array(center) - 14).max() <= 0.5


def test_transparent_turned_and_deep() -> None:
    """Ink on a transparent layer, a photo whose camera was held on its side, and 16 bits a pixel are the same digit."""
    upright = to_digit(read_image(io.BytesIO(saved(glyph("4"), "PNG"))))
    clear = Image.new("RGBA", (300, 300), "black")
    clear.putalpha(Image.eval(glyph("4").convert("L"), lambda value: 255 - value))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned = saved(glyph("4").rotate(90), "JPEG", exif=exif, quality=95)
    deep = Image.fromarray(np.asarray(glyph("4", 2000).convert("L"), np.uint16) * 257)  # as scanners write
    for content in (saved(clear, "PNG"), turned, saved(deep, "PNG")):
        assert np.abs(to_digit(read_image(io.BytesIO(content))).astype(int) - upright).mean() < 4


SIDE = 5656  # of 32 million pixels
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "cannot identify image file"),
    "text": (lambda: b"seven", "cannot identify image file"),
    "a TIFF": (lambda: saved(glyph(), "TIFF"), "cannot identify image file"),
    "a GIF": (lambda: saved(glyph(), "GIF"), "cannot identify image file"),
    "50,000 x 50,000": (lambda: png(50_000, 50_000, b"\0" * 50_001), "exceeds limit of"),
    "50,000 x 50,000, JPEG": (lambda: resized(saved(glyph(), "JPEG"), 50_000), "exceeds limit of"),
    "truncated": (lambda: saved(glyph(), "PNG")[:500], "truncated"),
    "too little": (lambda: png(100, 100, b"\0" * 99), "truncated"),
    "animated": (lambda: saved(glyph(), "PNG", save_all=True, append_images=[glyph("1")]), "an animation"),
    "damaged EXIF": (lambda: saved(Image.new("L", (50, 50)), "PNG", exif=b"Exif\0\0II*\0"), ""),
    "blank": (lambda: saved(Image.new("L", (100, 100), 200), "PNG"), "nothing differs"),
    "one pixel": (lambda: saved(Image.new("L", (1, 1)), "PNG"), "nothing differs"),
    "the largest, transparent": (lambda: saved(Image.new("RGBA", (SIDE, SIDE)), "PNG"), "nothing differs"),
    "the largest, progressive": (
        lambda: saved(Image.new("RGB", (SIDE, SIDE)), "JPEG", progressive=True, subsampling=0),
        "nothing differs",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str, tmp_path: Path) -> None:
    """A named error each, within 300 MB, though each is called .png."""
    make, words = HOSTILE[name]
    (tmp_path / "image.png").write_bytes(make())
    code = f"""
import resource
from pathlib import Path
from tools.predict import DIGITS, load
from src.runtime.errors import PipelineError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {MEMORY}, -1))
try:
    load({str(tmp_path / "image.png")!r}, DIGITS)
except PipelineError as error:
    print(error)
"""
    done = run(["python", "-c", code], ROOT)
    assert done.stdout.startswith("error: this image cannot be read"), done.stderr
    assert words in done.stdout


def test_many_at_once(clone: Path) -> None:
    """Good and bad files, standard input, JSON: the good are answered, and the exit status tells of the bad."""
    (clone / "a.png").write_bytes(saved(glyph("3"), "PNG"))
    (clone / "b.png").write_bytes(b"")
    done = run([*PREDICT, "a.png", "b.png", "--json", "--top", "3"], clone, check=False)
    assert is_block(done, "b.png", "cannot identify image file")
    (answer,) = json.loads(done.stdout)
    assert answer["image"] == "a.png"
    assert len(answer["top"]) == 3
    assert answer["sure"] == (answer["top"][0]["probability"] >= 0.9)
    piped = subprocess.run(
        [*PREDICT, "-"], cwd=clone, env=environment(), input=saved(glyph("3"), "PNG"), capture_output=True, check=True
    )
    assert f"-: {answer['predicted']} ".encode() in piped.stdout


def agreement(digits: list[np.ndarray], expected: list[str]) -> int:
    """How many of them the real model reads as expected."""
    net, about = load_model(ROOT / "data/model/model.safetensors")
    images = Dataset(np.stack(digits), np.zeros(len(digits), np.uint8), about.classes)
    read = predict(net, images, about.normalize, torch.device("cpu")).argmax(dim=1)
    return sum(about.classes[position] == name for position, name in zip(read.tolist(), expected, strict=True))


@pytest.mark.real
def test_photos_of_test_digits(count: Callable[[str], None]) -> None:
    """Of 1,000 test digits, saved as photos, the model reads at least 99 % as it reads the originals."""
    test, random = load_dataset(ROOT / "data/prepared/test.safetensors"), np.random.default_rng(0)
    read = pd.read_csv(ROOT / "metrics/predictions.csv", dtype=str)["predicted"]
    chosen = random.permutation(len(test))[:1000]
    photos = (photo(test.images[index], random, dark=bool(random.integers(2))) for index in chosen)
    same = agreement([to_digit(read_image(io.BytesIO(file))) for file in photos], list(read[chosen]))
    count(f"{same} of 1000 photos of test digits are read as the digits themselves")
    assert same >= 990


@pytest.mark.real
def test_printed_digits(count: Callable[[str], None]) -> None:
    """The digits of 22 fonts, dark on light and light on dark, which the model has never seen, at least 95 %."""
    names = [
        path.name
        for path in sorted(FONTS.glob("*.ttf"))
        if re.match(r"DejaVuS(ans|erif)(?!Display)|STIXGeneral|cm(b|mi|r|ss|ti|tt)10", path.name)
    ]
    colours = [("black", "white"), ("#eee", "#234")]
    cases = [(name, digit, ink, paper) for name in names for digit in "0123456789" for ink, paper in colours]
    pictures = (saved(glyph(digit, 200, ink, paper, name), "PNG") for name, digit, ink, paper in cases)
    same = agreement([to_digit(read_image(io.BytesIO(file))) for file in pictures], [case[1] for case in cases])
    count(f"{same} of {len(cases)} printed digits of {len(names)} fonts are read right")
    assert len(names) == 22
    assert same >= 0.95 * len(cases)
