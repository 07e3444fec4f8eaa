"""The section `inspect` of params.yaml."""

from pydantic import Field

from src.params.base import Section


class InspectParams(Section):
    max_blank: int = Field(ge=0)
    max_cross_split_duplicates: int = Field(ge=0)
