"""Settings that do not fit the training images."""

from types import SimpleNamespace

import pytest

from src.runtime.errors import PipelineError


def check(
    params: SimpleNamespace, images: int = 64, processes: int = 1, channels: int = 1, shift: float = 2,
    saturation: float = 0, **train: object,
) -> None:  # fmt: skip
    settings = params.train.model_copy(update={"batch_size": 64, **train})
    augmentation = params.augmentation.model_copy(update={"shift": shift, "saturation": saturation})
    settings.check(images, processes)
    augmentation.check(channels, 28)


def test_fitting_settings_pass(params: SimpleNamespace) -> None:
    check(params, images=66)
    check(params, images=68, processes=2)
    check(params, channels=3, saturation=0.5, shift=13.9)


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"images": 65}, "train.batch_size 64 leaves 1 of 65 images in the last batch", "train.batch_size=65"),
        ({"images": 129}, "64 leaves 1 of 129 images in the last batch", "train.batch_size=65"),
        ({"images": 67, "processes": 2}, "64 leaves 3 of 67 images in the last batch", "train.batch_size=67"),
        ({"saturation": 0.5}, "augmentation.saturation is 0.5, but the images are gray", "augmentation.saturation=0"),
        ({"shift": 14.0}, "shift is 14, expected less than half of the image size, 28", "augmentation.shift=3"),
    ],
)
def test_other_settings_are_errors(
    params: SimpleNamespace, settings: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(PipelineError) as error:
        check(params, **settings)
    assert message in str(error.value)
    assert f"\nhint: dvc exp run -S {hint}" in str(error.value)
