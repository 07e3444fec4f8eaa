"""The audit finds copies, near copies, blank, dark and small images, rare classes, and a wrong normalization."""

import io

import numpy as np
import pytest
from PIL import Image

from src.audit import audit, check_audit, find_copies, find_similar, is_blank, thumbnail_vectors
from src.data.dataset import Dataset
from src.params import Inspect, Normalize
from src.runtime.errors import PipelineError

CLASSES = ("a", "b")
STRICT = Inspect(samples=1, seed=0, max_blank=0, max_shared=0)


def picture(seed: int, side: int = 64) -> Image.Image:
    """Return a color image of smooth blobs, as different from another seed's as two photos."""
    coarse = np.random.default_rng(seed).integers(0, 230, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def dataset(images: list[np.ndarray], labels: list[int], folder: str = "", **sizes: np.ndarray) -> Dataset:
    """Return a data set, with files 0.png, 1.png, ... if there is a folder."""
    files = tuple(f"{folder}/{index}.png" for index in range(len(images))) if folder else ()
    return Dataset(np.stack(images), np.array(labels, np.uint8), CLASSES, files, **sizes)


def failure(splits: dict[str, Dataset], settings: Inspect = STRICT, normalize: Normalize | None = None) -> list[str]:
    """Return the lines of the error that the audit of these splits ends with."""
    with pytest.raises(PipelineError) as error:
        check_audit(*audit(splits), settings, normalize, "data/prepared")
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
            "range": [0, 1],
            "mean": 0.25,
            "std": pytest.approx(0.4330127),
            "blank": 2,
            "rare_classes": 2,
            "duplicates": 2,
            "class_counts": [3, 1],
        },
        "shared": {},
    }
    assert findings == {
        ("blank", "train"): [("0", ""), ("1", "")],
        ("rare_classes", "train"): [("a", "images: 3"), ("b", "images: 1")],
        ("duplicates", "train"): [("1", "equals 0"), ("3", "equals 2")],
    }


def test_color_images_have_statistics_per_channel() -> None:
    report, _ = audit({"train": dataset([np.full((2, 2, 3), (255, 0, 51), np.uint8)], [0])})
    assert (report["train"]["mean"], report["train"]["std"]) == ([1, 0, pytest.approx(0.2)], [0, 0, 0])


def test_audit_counts_copies_between_splits(splits: dict[str, Dataset]) -> None:
    report, _ = audit(splits)
    assert report["shared"] == {"train and validation": 2, "train and test": 2, "validation and test": 2}


def test_error_lists_every_problem_and_how_to_accept_it(splits: dict[str, Dataset]) -> None:
    report, _ = audit(splits)
    mean, std = report["train"]["mean"], report["train"]["std"]
    lines = failure(splits, normalize=Normalize(mean=[0.1307], std=[std]))
    assert lines == [
        "error: the audit of data/prepared failed:",
        "train: 1 blank images, expected at most 0: 0",
        "train and validation: 2 exact copies of images, expected at most 0: 0 equals 1, 1 equals 2",
        "train and test: 2 exact copies of images, expected at most 0: 0 equals 2, 1 equals 1",
        "validation and test: 2 exact copies of images, expected at most 0: 0 equals 1, 1 equals 0",
        f"train: mean of the pixels is [{mean:.4f}], but train.normalize.mean is [0.1307]",
        "hint: dvc exp run -S inspect.max_blank=1 -S inspect.max_shared=2 -S train.normalize=auto   # accepts this",
    ]


def test_error_names_the_first_three_files() -> None:
    blank = [np.full((8, 8), index, np.uint8) for index in range(5)]
    lines = failure({"train": dataset(blank, [0, 1, 0, 1, 0], "cat")})
    assert lines[1] == "train: 5 blank images, expected at most 0: cat/0.png, cat/1.png, cat/2.png, ..."
    assert lines[2] == "hint: dvc exp run -S inspect.max_blank=5   # accepts this"


def test_accepted_numbers_pass(splits: dict[str, Dataset]) -> None:
    splits = {"train": splits["train"], "test": splits["train"][1:]}
    check_audit(*audit(splits), STRICT.model_copy(update={"max_blank": 1, "max_shared": 5}), None, "data")


def test_class_without_training_images_has_no_parameter_that_accepts_it(splits: dict[str, Dataset]) -> None:
    lines = failure({"train": splits["test"], "test": splits["train"]})
    assert lines[1] == "train: no image of class b"
    assert lines[-1] == "hint: dvc repro   # after adding images of every class"


def test_class_without_test_images_is_a_finding(splits: dict[str, Dataset]) -> None:
    _, findings = audit({"train": splits["train"], "test": splits["test"]})
    assert findings["rare_classes", "train"] == [("a", "images: 3"), ("b", "images: 3")]
    assert findings["rare_classes", "test"] == [("b", "images: 0")]


def test_validation_and_test_may_be_the_same_set(splits: dict[str, Dataset]) -> None:
    report, _ = audit(splits | {"test": splits["validation"]})
    assert report["shared"] == {"train and validation": 2, "train and test": 2}


def test_equal_images_of_different_files_are_shared() -> None:
    images = [np.asarray(picture(seed)) for seed in range(2)]
    report, _ = audit({"validation": dataset(images, [0, 1], "val"), "test": dataset(images, [0, 1], "test")})
    assert report["shared"] == {"validation and test": 2}


def test_images_below_half_the_size_are_small() -> None:
    images = [np.asarray(picture(seed, 32)) for seed in range(3)]
    sizes = np.array([[10, 15], [10, 16], [640, 480]], np.uint32)
    report, findings = audit({"train": dataset(images, [0, 1, 1], "a", sizes=sizes)})
    assert findings["small", "train"] == [("a/0.png", "10 x 15 pixels")]
    assert report["train"]["small"] == 1


def test_nearly_black_images_are_dark() -> None:
    ramp = np.linspace(0, 4095, 64, dtype=np.uint16).reshape(8, 8)  # 12 bits
    images = [(ramp * factor // 257).astype(np.uint8) for factor in (1, 16)]
    _, findings = audit({"train": dataset(images, [0, 1], "a", sizes=np.full((2, 2), 8, np.uint32))})
    assert findings["dark", "train"] == [("a/0.png", "largest value 15 of 255")]


@pytest.mark.parametrize(
    ("image", "blank"),
    [
        (np.full((2, 2), 7, np.uint8), True),
        (np.array([[7, 7], [7, 8]], np.uint8), False),
        (np.array([[7, 8], [7, 8]], np.uint8), False),
        (np.full((2, 2, 3), (255, 0, 7), np.uint8), True),
    ],
)
def test_image_of_one_color_is_blank(image: np.ndarray, blank: bool) -> None:
    assert is_blank(image) == blank


def test_copies_point_to_the_first_one() -> None:
    assert find_copies([b"x", b"y", b"x"], [b"y", b"x", b"z"], within=False).tolist() == [1, 0, -1]
    items = [b"x", b"y", b"x", b"x"]
    assert find_copies(items, items, within=True).tolist() == [-1, -1, 0, 0]


def test_near_copies_are_found_and_other_pictures_are_not() -> None:
    pictures = [picture(seed) for seed in range(300)]
    changes = {
        "JPEG": [jpeg(image, 40) for image in pictures],
        "half the size": [image.resize((32, 32)).resize((64, 64)) for image in pictures],
        "brighter": [image.point(lambda value: value * 1.1) for image in pictures],
        "darker": [image.point(lambda value: value * 0.8) for image in pictures],
    }
    originals = thumbnail_vectors([np.asarray(image) for image in pictures])
    assert (find_similar(originals, originals, within=True) == -1).all()
    for name, changed in changes.items():
        vectors = thumbnail_vectors([np.asarray(image) for image in changed])
        assert find_similar(originals, vectors, within=False).tolist() == list(range(300)), name


def test_flat_images_are_not_near_copies() -> None:
    noise = np.random.default_rng(0).integers(200, 203, (20, 64, 64, 3), np.uint8)
    vectors = thumbnail_vectors([*noise, np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)])
    assert (find_similar(vectors, vectors, within=True) == -1).all()


def test_near_copies_are_searched_for_in_files_only_and_exact_copies_are_not_counted_again() -> None:
    original, other = picture(0), picture(1)
    images = [np.asarray(image) for image in (original, other, jpeg(original, 60), other)]
    splits = {"train": dataset(images, [0, 1, 0, 1], "train"), "test": dataset(images[1:3], [1, 0], "test")}
    report, findings = audit(splits)
    assert (report["train"]["duplicates"], report["train"]["near_duplicates"]) == (1, 1)
    assert (report["shared"], report["nearly_shared"]) == ({"train and test": 2}, {"train and test": 0})
    assert findings["near_duplicates", "train"] == [("train/2.png", "resembles train/0.png")]
    splits["test"] = dataset([np.asarray(jpeg(image, 50)) for image in (original, other)], [0, 1], "test")
    assert audit(splits)[1]["nearly_shared", "train and test"] == [
        ("test/0.png", "resembles train/2.png"),
        ("test/1.png", "resembles train/1.png"),
    ]
    report, _ = audit({"train": dataset(images, [0, 1, 0, 1])})
    assert "near_duplicates" not in report["train"]
