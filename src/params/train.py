"""The section `train` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from src.params.base import Section, UnitInterval
from src.runtime.errors import PipelineError


class TrainParams(Section):
    seed: int = Field(ge=0, lt=2**32)
    validation: int = Field(ge=0)
    folds: int = Field(ge=0, le=1000)
    fold: int = Field(ge=0)
    fraction: float = Field(gt=0, le=1)
    epochs: float = Field(gt=0, le=10_000)
    evaluations: int = Field(ge=1, le=10_000)
    batch_size: int = Field(ge=1, le=65_536)
    optimizer: Literal["sgd", "adamw", "muon"]
    learning_rate: float = Field(gt=0, le=10)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=10)
    schedule: Literal["constant", "step", "linear"]
    warmup: float = Field(ge=0, lt=1)
    step_size: int = Field(ge=1)
    gamma: float = Field(gt=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    class_weight: UnitInterval
    test_time_augmentation: Literal["none", "shift", "mirror"]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.schedule == "step" and self.warmup > 0:
            raise ValueError("schedule `step` has no warmup: set train.warmup to 0")
        if self.folds == 1 or self.fold >= max(self.folds, 1):
            raise ValueError(f"fold {self.fold} of {self.folds}: set train.folds to 2 or more, and train.fold below it")
        return self

    def check(self, num_images: int, processes: int) -> None:
        """Raise PipelineError if so many images cannot be divided into batches for so many processes."""
        last_batch = num_images % self.batch_size or self.batch_size
        if last_batch < 2 * processes:  # batch norm needs two images
            larger = range(self.batch_size, num_images)
            works = next((size for size in larger if (num_images % size or size) >= 2 * processes), num_images)
            raise PipelineError(
                f"train.batch_size {self.batch_size} leaves {last_batch} of {num_images:,} images in the last batch, "
                "expected at least two per process",
                f"dvc exp run -S train.batch_size={works}   # or fewer compute.processes",
            )
