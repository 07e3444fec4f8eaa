"""The section `compute` of params.yaml."""

from typing import Literal

from pydantic import Field

from src.params.base import Section


class ComputeParams(Section):
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: int = Field(ge=1, le=1024)
    processes: int = Field(ge=1, le=1024)
    portable: bool
