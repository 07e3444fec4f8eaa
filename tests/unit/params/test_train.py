"""Batches that are too small."""

from types import SimpleNamespace

import pytest

from src.runtime.errors import PipelineError


@pytest.mark.parametrize(
    ("images", "processes", "left", "works"), [(65, 1, 1, 65), (129, 1, 1, 65), (67, 2, 3, 67), (66, 1, 2, 0)]
)
def test_last_batch_has_two_images_per_process(
    params: SimpleNamespace, images: int, processes: int, left: int, works: int
) -> None:
    settings = params.train.model_copy(update={"batch_size": 64})
    if not works:
        settings.check(images, processes)
        return
    with pytest.raises(PipelineError) as error:
        settings.check(images, processes)
    assert f"train.batch_size 64 leaves {left} of {images} images in the last batch" in str(error.value)
    assert f"\nhint: dvc exp run -S train.batch_size={works} " in str(error.value)
