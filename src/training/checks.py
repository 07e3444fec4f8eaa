"""Checks that need both the settings and the images, before any work."""

from src.data.dataset import Dataset
from src.params.augmentation import AugmentationParams
from src.params.train import TrainParams
from src.runtime.errors import PipelineError


def check_settings(train_set: Dataset, settings: TrainParams, augmentation: AugmentationParams, processes: int) -> None:
    """Raise PipelineError if the settings do not fit the training images."""
    channels, image_size, _ = train_set.image_shape
    augmentation.check(channels, image_size)
    if settings.normalize != "auto":
        counts = len(settings.normalize.mean), len(settings.normalize.std)
        if set(counts) != {channels}:
            raise PipelineError(
                f"train.normalize has {counts[0]} mean and {counts[1]} std, expected one per channel ({channels})",
                "dvc exp run -S train.normalize=auto",
            )
    last_batch = len(train_set) % settings.batch_size or min(settings.batch_size, len(train_set))
    if last_batch < 2 * processes:  # batch norm needs two images
        raise PipelineError(
            f"train.batch_size {settings.batch_size} leaves {last_batch} of {len(train_set):,} images in the last "
            f"batch, expected at least two per process",
            f"dvc exp run -S train.batch_size={settings.batch_size + 2 * processes}   # or fewer compute.processes",
        )
