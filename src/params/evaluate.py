"""The section `evaluate` of params.yaml."""

from pydantic import Field

from src.params.base import Section


class EvaluateParams(Section):
    calibration_bins: int = Field(ge=1, le=1000)
