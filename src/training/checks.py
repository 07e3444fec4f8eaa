"""Checks of the training set before any work."""

from src.data.dataset import Dataset
from src.params import Params
from src.registry import MODELS
from src.runtime.errors import PipelineError


def check_train_set(train_set: Dataset, params: Params) -> None:
    """Raise PipelineError if the images are not those of params.yaml, or if a batch has too few of them."""
    (channels, height, width), prepare = train_set.image_shape, params.prepare
    if (channels, height, width) != (prepare.channels, prepare.image_size, prepare.image_size):
        raise PipelineError(
            f"the prepared images have {channels} channels and {height} x {width} pixels, "
            f"but prepare.channels is {prepare.channels} and prepare.image_size {prepare.image_size}",
            "dvc repro   # prepares them again",
        )
    settings, images = params.train, len(train_set)
    last_batch = images % settings.batch_size or min(settings.batch_size, images)  # 0 if there are no images
    # most networks of torchvision fail on a batch of one image, because of batch norm; those in src/models do not
    needed = settings.processes * (1 if params.model.name in MODELS else 2)
    if last_batch < needed:
        raise PipelineError(
            f"train.batch_size {settings.batch_size} leaves {last_batch} of {images:,} images in the last batch, "
            f"expected at least {needed} (per process: two with a network of torchvision, otherwise one)",
            f"dvc exp run -S train.batch_size={settings.batch_size + needed}   # or fewer train.processes",
        )
