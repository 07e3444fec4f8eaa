"""Mean and standard deviation of the pixels."""

from typing import Annotated

from pydantic import Field

from src.params.base import Section, UnitInterval


class Normalize(Section):
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: list[UnitInterval] = Field(min_length=1, max_length=3)
    std: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1, max_length=3)
