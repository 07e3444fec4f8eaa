"""The section `augmentation` of params.yaml."""

from typing import Literal

from pydantic import Field

from src.params.base import Section, UnitInterval


class AugmentationParams(Section):
    center_crop_prob: UnitInterval
    flip_prob: UnitInterval
    rotation: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, lt=1)
    shear: float = Field(ge=0, lt=90)
    shift: float = Field(ge=0, lt=512)
    interpolation: Literal["nearest", "bilinear"]
    brightness: UnitInterval
    contrast: UnitInterval
    saturation: UnitInterval
    erasing_prob: UnitInterval

    @property
    def is_identity(self) -> bool:
        """Whether no image changes: every number is 0."""
        return not any(value for value in self.model_dump().values() if not isinstance(value, str))
