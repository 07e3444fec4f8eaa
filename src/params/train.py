"""The section `train` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from src.params.base import Section, Seed
from src.params.normalize import Normalize


class TrainParams(Section):
    seed: Seed
    epochs: float = Field(gt=0, le=10_000)
    validations: int = Field(ge=1, le=10_000)
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
    normalize: Literal["auto"] | Normalize
    test_time_augmentation: bool

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.schedule == "step" and self.warmup > 0:
            raise ValueError("schedule `step` has no warmup: set train.warmup to 0")
        return self
