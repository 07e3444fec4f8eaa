"""Checks of the training set before any work."""

from src.data.dataset import Dataset
from src.params import Params
from src.registry import MODELS
from src.runtime.errors import PipelineError


def check_train_set(train_set: Dataset, params: Params) -> None:
    """Raise PipelineError if the network does not accept the images, or if a batch has too few of them."""
    shape, name = train_set.image_shape, params.model.name
    if not MODELS[name].accepts(shape):
        fitting = [other for other, spec in MODELS.items() if spec.accepts(shape)]
        raise PipelineError(
            f"model `{name}` does not accept images of shape {shape} (channels, height, width); "
            f"models that do: {', '.join(fitting) or 'none'}",
            f"dvc exp run -S model.name={fitting[0]}" if fitting else "dvc repro --force --single-item prepare",
        )
    settings, images = params.train, len(train_set)
    last_batch = images % settings.batch_size or min(settings.batch_size, images)  # 0 if there are no images
    # batch norm needs two images, and each process needs its own
    needed = settings.processes * (2 if settings.batch_norm else 1)
    if last_batch < needed:
        raise PipelineError(
            f"train.batch_size {settings.batch_size} leaves {last_batch} of {images:,} images in the last batch, "
            f"expected at least {needed} (two per process for train.batch_norm, otherwise one)",
            "dvc exp run -S train.batch_norm=false -S train.processes=1   # or another train.batch_size",
        )
