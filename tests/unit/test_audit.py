"""The audit finds copies, near copies, blank, dark and small images, and rare classes."""

import io

import numpy as np
import pytest
from PIL import Image

from src.audit import audit, check_audit, find_similar, thumbnail_vectors
from src.data.dataset import Dataset
from src.params.inspect import InspectParams
from src.runtime.errors import PipelineError
from tests.images import encode

CLASSES = ("a", "b")
STRICT = InspectParams(max_blank=0, max_cross_split_duplicates=0)


def picture(seed: int, side: int = 64) -> Image.Image:
    """Return a color image of smooth blobs, as different from another seed's as two photos."""
    coarse = np.random.default_rng(seed).integers(0, 230, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, "JPEG", quality=quality))).convert("RGB")


def dataset(images: list, labels: list[int], folder: str = "", **sizes: np.ndarray) -> Dataset:
    """Return a data set, with files 0.png, 1.png, ... if there is a folder."""
    files = tuple(f"{folder}/{index}.png" for index in range(len(images))) if folder else ()
    arrays = np.stack([np.asarray(image) for image in images])
    return Dataset(arrays, np.array(labels, np.uint8), CLASSES, files, **sizes)


def failure(splits: dict[str, Dataset]) -> list[str]:
    """Return the lines of the error that the audit of these splits ends with."""
    with pytest.raises(PipelineError) as error:
        check_audit(audit(splits)[1], STRICT, "data/prepared")
    return [line.strip() for line in str(error.value).splitlines()]


@pytest.fixture
def splits() -> dict[str, Dataset]:
    """A training set with a blank image, and validation and test sets with two of its images, both of class a."""
    images = list(np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8))
    images[0][:] = 0
    train, held_out = dataset(images, [0, 1, 0, 1, 0, 1]), [images[1], images[2]]
    return {"train": train, "validation": dataset(held_out, [0, 0]), "test": dataset(held_out[::-1], [0, 0])}


def test_audit_measures_a_split() -> None:
    images = np.zeros((4, 1, 2), np.uint8)
    images[2:, 0, 1] = 255  # pixels: six of 0, two of 1
    report, findings = audit({"train": Dataset(images, np.array([0, 0, 0, 1], np.uint8), CLASSES)})
    assert report == {
        "classes": ["a", "b"],
        "train": {
            "images": 4,
            "shape": [1, 2],
            "mean": [0.25],
            "std": [pytest.approx(0.4330127)],
            "blank": 2,
            "rare_classes": 2,
            "duplicates": 2,
            "class_counts": [3, 1],
        },
    }
    assert findings == {
        ("blank", "train"): [("0", ""), ("1", "")],
        ("rare_classes", "train"): [("a", "images: 3"), ("b", "images: 1")],
        ("duplicates", "train"): [("1", "equals 0"), ("3", "equals 2")],
    }


def test_error_lists_every_problem_and_how_to_accept_it(splits: dict[str, Dataset]) -> None:
    assert failure(splits) == [
        "error: the audit of data/prepared failed:",
        "train: 1 blank images, expected at most 0: 0",
        "train and validation: 2 exact copies of images, expected at most 0: 0 equals 1, 1 equals 2",
        "train and test: 2 exact copies of images, expected at most 0: 0 equals 2, 1 equals 1",
        "validation and test: 2 exact copies of images, expected at most 0: 0 equals 1, 1 equals 0",
        "hint: dvc exp run -S inspect.max_blank=1 -S inspect.max_cross_split_duplicates=2   # accepts this",
    ]
    check_audit(audit(splits)[1], InspectParams(max_blank=1, max_cross_split_duplicates=2), "data")


def test_class_without_test_images_is_a_finding(splits: dict[str, Dataset]) -> None:
    assert audit(splits)[1]["rare_classes", "test"] == [("b", "images: 0")]


def test_equal_images_of_different_files_are_duplicates() -> None:
    """The error names the first three."""
    images, labels = [picture(seed) for seed in range(4)], [0, 1, 0, 1]
    lines = failure({"train": dataset(images, labels, "train"), "test": dataset(images, labels, "test")})
    assert lines[1] == (
        "train and test: 4 exact copies of images, expected at most 0: "
        "test/0.png equals train/0.png, test/1.png equals train/1.png, test/2.png equals train/2.png, ..."
    )


def test_images_below_half_the_size_are_small_and_nearly_black_ones_dark() -> None:
    ramp = np.linspace(0, 4095, 64, dtype=np.uint16).reshape(8, 8)  # 12 bits
    images = [(ramp * factor // 257).astype(np.uint8) for factor in (1, 16, 15)]
    sizes = np.array([[64, 48], [2, 3], [2, 4]], np.uint32)
    _, findings = audit({"train": dataset(images, [0, 1, 1], "a", sizes=sizes)})
    assert findings["dark", "train"] == [("a/0.png", "largest value 15 of 255")]
    assert findings["small", "train"] == [("a/1.png", "2 x 3 pixels")]


def test_image_of_one_color_is_blank() -> None:
    blank, gradient = np.full((2, 2, 3), (255, 0, 7), np.uint8), np.array([[7, 8], [7, 8]], np.uint8)
    assert audit({"train": dataset([blank], [0])})[0]["train"]["blank"] == 1
    assert audit({"train": dataset([gradient], [0])})[0]["train"]["blank"] == 0


def test_near_copies_are_found_and_other_pictures_are_not() -> None:
    pictures = [picture(seed) for seed in range(300)]
    changes = {
        "JPEG": [jpeg(image, 40) for image in pictures],
        "half the size": [image.resize((32, 32)).resize((64, 64)) for image in pictures],
        "brighter": [image.point(lambda value: value * 1.1) for image in pictures],
    }
    originals = thumbnail_vectors([np.asarray(image) for image in pictures])
    assert not find_similar(originals, originals, within=True)
    for name, changed in changes.items():
        vectors = thumbnail_vectors([np.asarray(image) for image in changed])
        assert find_similar(originals, vectors, within=False) == {i: i for i in range(300)}, name


def test_of_equal_pictures_the_first_one_is_resembled() -> None:
    """The correlations are exactly equal, wherever a picture is in the list."""
    pictures = [np.asarray(picture(seed)) for seed in range(100)]
    vectors = thumbnail_vectors([*pictures, *pictures, *pictures])
    resembled = find_similar(vectors, thumbnail_vectors([np.asarray(jpeg(picture(7), 40))] * 50), within=False)
    assert resembled == dict.fromkeys(range(50), 7)
    assert find_similar(vectors, vectors, within=True) == {100 + i: i % 100 for i in range(200)}


def test_flat_images_are_not_near_copies() -> None:
    ramp = np.tile(np.linspace(100, 106, 64).astype(np.uint8), (64, 1))
    vectors = thumbnail_vectors([ramp, ramp + 1])
    assert not find_similar(vectors, vectors, within=True)


def test_near_copies_are_searched_for_in_files_only_and_exact_copies_are_not_counted_again() -> None:
    original, other = picture(0), picture(1)
    images = [original, other, jpeg(original, 60), other]
    train = dataset(images, [0, 1, 0, 1], "train")
    report, findings = audit({"train": train, "test": dataset([jpeg(original, 50), other], [0, 1], "test")})
    assert (report["train"]["duplicates"], report["train"]["near_duplicates"]) == (1, 1)
    assert findings["near_duplicates", "train"] == [("train/2.png", "resembles train/0.png")]
    assert report["cross_split_duplicates"] == {"train and test": 1}
    assert findings["near_cross_split_duplicates", "train and test"] == [("test/0.png", "resembles train/2.png")]
    assert "near_duplicates" not in audit({"train": dataset(images, [0, 1, 0, 1])})[0]["train"]
