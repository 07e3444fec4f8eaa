"""The section `compute` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from src.params.base import Section


class ComputeParams(Section):
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: int = Field(ge=1, le=1024)
    processes: int = Field(ge=1, le=1024)
    portable: bool

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.precision == "bf16" and self.device == "mps":
            raise ValueError("precision `bf16` needs cpu or cuda: set compute.precision to fp32")
        if self.processes > 1 and self.device == "mps":
            raise ValueError("several processes cannot exchange gradients on mps: set compute.device to auto")
        if self.portable and (self.device not in ("auto", "cpu") or self.precision == "bf16"):
            raise ValueError("portable computes in float32 on the CPU: set compute.device and precision to auto")
        return self
