"""The schema of params.yaml. Every key is required, and unknown keys are errors.

python -m src.params --schema > .vscode/params.schema.json    the schema for editors
"""

import argparse
import difflib
import json
import re
import reprlib
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from src.registry import check_name, check_network
from src.runtime.errors import PipelineError

UnitInterval = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class StrictModel(BaseModel):
    """Refuse unknown keys, `true` for a number, "5" for 5, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _check_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (OverflowError, RecursionError, re.error) as error:
        raise ValueError(f"`{pattern}` is not a regular expression: {error}") from None
    return pattern


class Prepare(StrictModel):
    dataset: Literal["mnist", "fashion-mnist", "folder"]
    image_size: int = Field(ge=8, le=1024)
    channels: Literal[1, 3]
    fit: Literal["pad", "crop", "stretch"]
    group: Annotated[str, AfterValidator(_check_regex)]
    test: float = Field(gt=0, lt=1)
    validation: int = Field(ge=0)
    seed: Seed

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.dataset != "folder" and (self.image_size, self.channels) != (28, 1):
            raise ValueError(f"{self.dataset} has gray images of 28 x 28 pixels: set image_size to 28, channels to 1")
        return self


class Inspect(StrictModel):
    samples: int = Field(ge=1, le=200)
    seed: Seed
    max_blank: int = Field(ge=0)
    max_shared: int = Field(ge=0)


class Normalize(StrictModel):
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: list[UnitInterval] = Field(min_length=1, max_length=3)
    std: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1, max_length=3)


class Augmentation(StrictModel):
    center_crop: UnitInterval
    flip: UnitInterval
    rotation: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, lt=1)
    shear: float = Field(ge=0, lt=90)
    shift: float = Field(ge=0, lt=512)
    interpolation: Literal["nearest", "bilinear"]
    brightness: UnitInterval
    contrast: UnitInterval
    saturation: UnitInterval
    erasing: UnitInterval

    @property
    def is_identity(self) -> bool:
        """Whether no image changes: every number is 0."""
        return not any(value for value in self.model_dump().values() if not isinstance(value, str))


def _should_check_model(info: ValidationInfo) -> bool:
    return bool((info.context or {}).get("check_model", True))


def _check_name_if_asked(name: str, info: ValidationInfo) -> str:
    return check_name(name) if _should_check_model(info) else name


class Model(StrictModel):
    name: Annotated[str, AfterValidator(_check_name_if_asked)]
    pretrained: bool


class Train(StrictModel):
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
    step_epochs: int = Field(ge=1)
    step_factor: float = Field(gt=0, le=1)
    initialization: Literal["pytorch", "kaiming"]
    label_smoothing: float = Field(ge=0, lt=1)
    freeze_epochs: int = Field(ge=0)
    augmentation: Augmentation
    normalize: Annotated[
        Normalize | None,  # None is `auto`
        BeforeValidator(lambda value: None if value == "auto" else value or {}),  # {} makes null an error
        PlainSerializer(lambda value: value or "auto"),
        Field(json_schema_extra=lambda schema: schema["anyOf"].__setitem__(1, {"const": "auto"})),
    ]
    test_time_augmentation: bool
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: int = Field(ge=1, le=1024)
    processes: int = Field(ge=1, le=1024)
    portable: bool
    checkpoint_seconds: float = Field(ge=0, le=86_400)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.schedule == "step" and self.warmup > 0:
            raise ValueError("schedule `step` has no warmup: set train.warmup to 0")
        if self.precision == "bf16" and self.device == "mps":
            raise ValueError("precision `bf16` needs cpu or cuda: set train.precision to fp32")
        if self.processes > 1 and self.device == "mps":
            raise ValueError("several processes cannot exchange gradients on mps: set train.device to auto")
        if self.portable and (self.device not in ("auto", "cpu") or self.precision == "bf16"):
            raise ValueError("portable computes in float32 on the CPU: set train.device and train.precision to auto")
        return self


class Evaluate(StrictModel):
    calibration_bins: int = Field(ge=1, le=1000)


class Plot(StrictModel):
    mistakes: int = Field(ge=1, le=200)
    dpi: int = Field(ge=30, le=600)


class Params(StrictModel):
    prepare: Prepare
    inspect: Inspect
    model: Model
    train: Train
    evaluate: Evaluate
    plot: Plot

    @model_validator(mode="after")
    def _check_consistency(self, info: ValidationInfo) -> Self:
        prepare, model, train = self.prepare, self.model, self.train
        if _should_check_model(info):
            shape = (prepare.channels, prepare.image_size, prepare.image_size)
            check_network(model.name, shape, model.pretrained)
        if train.normalize and {len(train.normalize.mean), len(train.normalize.std)} != {prepare.channels}:
            raise ValueError(f"train.normalize needs one mean and one std per channel ({prepare.channels}), or auto")
        if train.freeze_epochs >= train.epochs and not model.pretrained:
            raise ValueError("train.freeze_epochs leaves no epoch for random weights: set it below train.epochs")
        if train.augmentation.shift >= prepare.image_size / 2:
            raise ValueError("train.augmentation.shift is half of prepare.image_size or more: set it below half")
        if train.augmentation.saturation and prepare.channels == 1:
            raise ValueError("train.augmentation.saturation needs color images: set it to 0")
        return self


def load_params(path: Path, check_model: bool = True) -> Params:
    """Read and check params.yaml.

    Args:
        path: the file.
        check_model: whether to check that `model` exists and accepts the images. For a network of torchvision, this
            imports torch and torchvision.

    Raises:
        PipelineError: the file cannot be read, or its values are invalid.
    """
    try:
        return check_params(load_yaml(path.read_text(encoding="utf-8")), path, check_model=check_model)
    except FileNotFoundError:
        message = f"{path} does not exist in {Path.cwd()}"
    except (YAMLError, ValueError, RecursionError) as error:
        message = f"{path} is not valid YAML: {error}"
    raise PipelineError(message, f"git diff {path}   # fix it, then: dvc repro") from None


def check_params(
    values: Any,
    source: object = "params.yaml",
    hint: str = "dvc params diff   # correct the values, then: dvc repro",
    check_model: bool = True,
) -> Params:
    """Check parameters against the schema.

    Args:
        values: nested values by key.
        source: where they come from, for the error message.
        hint: how to correct them, for the error message.
        check_model: as in `load_params`.

    Raises:
        PipelineError: lists every unknown key (with the nearest known one), missing key, wrong type and value out of
            range. A section without such mistakes is also checked for contradictions; the first one is listed.
    """
    try:
        return Params.model_validate(values, context={"check_model": check_model})
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors()]
    count = f"{len(problems)} mistake" + "s" * (len(problems) > 1)
    raise PipelineError("\n".join([f"{source} has {count}:", *problems]), hint)


def load_yaml(text: str) -> Any:
    """Parse YAML with the parser of DVC. Raises YAMLError."""
    return YAML(typ="safe").load(text)


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the values by dotted key ("train.epochs") of a recipe: lines of `--set-param=key=value`."""
    pairs = (line.removeprefix("--set-param=").split("=", 1) for line in path.read_text().split())
    return {key: load_yaml(value) for key, value in pairs}


def override(values: dict[str, Any], settings: Mapping[str, object]) -> None:
    """Set nested values in place, by dotted key. Raises KeyError if a section does not exist."""
    for name, value in settings.items():
        *section, key = name.split(".")
        reduce(getitem, section, values)[key] = value


def _describe(item: Any) -> str:
    """Return one mistake as "dotted.key: what is wrong"."""
    path = [str(part) for part in item["loc"]]
    if error := item.get("ctx", {}).get("error"):
        message = str(error)
    elif item["type"] == "extra_forbidden":
        message = f"unknown key{_suggest(path)}"
    elif item["type"] == "missing":
        message = "missing"
    else:
        expected = item["msg"].removeprefix("Input should be ").split(", unable")[0]
        message = f"found {reprlib.repr(item['input'])}, expected {expected}"
    return ": ".join([".".join(path), message]) if path else message


def _suggest(path: list[str]) -> str:
    """Return the known key nearest to the last part of `path`, or all keys of that section."""
    section: Any = Params
    for part in path[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(path[-1], section.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(section.model_fields)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Print the JSON schema of params.yaml")
    parser.add_argument("--schema", action="store_true", required=True)
    parser.parse_args()
    print(json.dumps(Params.model_json_schema(), indent=2))
