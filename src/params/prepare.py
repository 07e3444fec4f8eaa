"""The section `prepare` of params.yaml."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from src.params.base import Section


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (OverflowError, RecursionError, re.error) as error:
        raise ValueError(f"`{pattern}` is not a regular expression: {error}") from None
    return pattern


class PrepareParams(Section):
    dataset: Literal["mnist", "fashion-mnist", "folder"]
    image_size: int = Field(ge=8, le=1024)
    channels: Literal[1, 3]
    fit: Literal["pad", "crop", "stretch"]
    group: Annotated[str, AfterValidator(_check_regex)]
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.dataset != "folder" and (self.image_size, self.channels) != (28, 1):
            raise ValueError(f"{self.dataset} has gray images of 28 x 28 pixels: set image_size to 28, channels to 1")
        return self
