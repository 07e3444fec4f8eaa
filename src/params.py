"""The closed, typed schema of params.yaml: every key required, none unknown, and every mistake listed at once."""

import difflib
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from src.runtime.errors import PipelineError

Fraction = Annotated[float, Field(ge=0, le=1)]
Network = Literal["net", "dash", "tiny"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """Strict: an unknown key, `true` for a number, "5" for 5, NaN and Infinity are all refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Prepare(Section):
    dataset: Literal["mnist", "fashion-mnist", "folder"]
    test: float = Field(gt=0, lt=1)
    validation: int = Field(ge=0)
    seed: Seed


class Inspect(Section):
    samples: int = Field(ge=1, le=200)
    seed: Seed
    max_blank: int = Field(ge=0)
    max_shared: int = Field(ge=0)


class Normalize(Section):
    mean: Fraction
    std: float = Field(gt=0, le=1)


class Augmentation(Section):
    center_crop: Fraction
    flip: Fraction
    rotation: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, lt=1)
    shear: float = Field(ge=0, lt=90)
    shift: float = Field(ge=0, lt=14)
    interpolation: Literal["nearest", "bilinear"]

    @property
    def none(self) -> bool:
        """Whether every image stays as it is."""
        return not (self.center_crop or self.flip or self.rotation or self.scale or self.shear or self.shift)


class Model(Section):
    name: Network


class Train(Section):
    seed: Seed
    epochs: float = Field(gt=0, le=10_000)
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
    batch_norm: bool
    label_smoothing: float = Field(ge=0, lt=1)
    hardest: float = Field(gt=0, le=1)
    low_resolution: Fraction
    augmentation: Augmentation
    normalize: Normalize
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]
    threads: int = Field(ge=1, le=1024)
    processes: int = Field(ge=1, le=1024)
    portable: bool
    checkpoint_seconds: float = Field(ge=0, le=86_400)

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.schedule == "step" and self.warmup > 0:
            raise ValueError("schedule `step` keeps the rate whole from the start: warmup must be 0")
        if self.batch_norm and self.low_resolution == 1:
            raise ValueError("batch_norm measures at full resolution what it folds: low_resolution must be below 1")
        if self.precision == "bf16" and self.device == "mps":
            raise ValueError("precision `bf16` is for cpu and cuda: with device `mps` use fp32")
        if self.processes > 1 and self.device == "mps":
            raise ValueError("several processes exchange nothing that lies on device `mps`: leave it on auto")
        if self.portable and (self.device not in ("auto", "cpu") or self.precision == "bf16"):
            raise ValueError("portable computes in float32 on the processor: leave device and precision on auto")
        return self


class Evaluate(Section):
    calibration_bins: int = Field(ge=1, le=1000)


class Plot(Section):
    mistakes: int = Field(ge=1, le=200)
    dpi: int = Field(ge=30, le=600)


class Params(Section):
    prepare: Prepare
    inspect: Inspect
    model: Model
    train: Train
    evaluate: Evaluate
    plot: Plot

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.model.name != "net" and (self.train.low_resolution > 0 or self.train.batch_norm):
            raise ValueError(
                f"model `{self.model.name}` reads 28 x 28 pixels only and has a normalisation of its own: "
                "train.low_resolution must be 0 and train.batch_norm false"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and check the parameters.

    Raises PipelineError that lists every mistake with its line: unknown key (and the nearest known one), missing key,
    wrong type, out of range, contradiction; or the first duplicate key, tag, alias, and text that is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        refused = list(_tags_and_aliases(text))
        values = None if refused else YAML().load(text)
    except FileNotFoundError:
        raise _error(path, [], found="no such file") from None
    except MarkedYAMLError as error:
        raise _error(path, [f"{_line(error.problem_mark.line)}: not YAML: {error.problem}"]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise _error(path, [], found=f"not YAML: {str(error).splitlines()[0]}") from None
    if refused:
        raise _error(path, refused)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise _error(path, [_describe(item, values) for item in error.errors()]) from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The values by dotted key ("train.epochs") of a file of lines `--set-param=key=value`, as `dvc exp run` takes."""
    pairs = (line.removeprefix("--set-param=").split("=", 1) for line in path.read_text().split())
    return {key: read_value(value) for key, value in pairs}


def read_value(text: str) -> Any:
    """One value as params.yaml would have it: 1e-3 is a number."""
    return YAML(typ="safe", pure=True).load(text)


def set_values(values: dict[str, Any], settings: Mapping[str, object]) -> None:
    """Change nested parameters in place, by dotted key; raises KeyError for an unknown section."""
    for name, value in settings.items():
        *section, key = name.split(".")
        reduce(getitem, section, values)[key] = value


def _tags_and_aliases(text: str) -> Iterator[str]:
    """Explicit tags could name types, aliases could grow without bound: plain values need neither."""
    for event in YAML().parse(text):
        for what in ("tag", "anchor"):
            if getattr(event, what, None) is not None:
                yield f"{_line(event.start_mark.line)}: {what} {getattr(event, what)}: expected a plain value"


def _line(number: int) -> str:
    return f"line {number + 1}"


def _describe(item: Any, values: Any) -> str:
    """One mistake as `line N: key: what is wrong`; a missing key has no line."""
    path = tuple(str(part) for part in item["loc"])
    if item["type"] == "value_error" and not path:
        return str(item["ctx"]["error"])
    if not path:
        return f"found {type(item['input']).__name__}, expected: the sections {', '.join(Params.model_fields)}"
    name, shown = ".".join(path), repr(item["input"])[:60]
    message = {
        "extra_forbidden": f"unknown key{_suggestion(path)}",
        "missing": "missing",
        "value_error": str(item.get("ctx", {}).get("error", item["msg"])),
    }.get(item["type"], f"found {shown}, expected: {_expected(item['msg'])}")
    try:
        section = reduce(getitem, path[:-1], values)
        return f"{_line(section.lc.key(path[-1])[0])}: {name}: {message}"
    except (KeyError, TypeError):  # an empty section has no lines
        return f"{name}: {message}"


def _expected(message: str) -> str:
    """Pydantic's "Input should be a valid number" as "a valid number"."""
    return message.removeprefix("Input should be ").split(", unable")[0]


def _suggestion(path: tuple[str, ...]) -> str:
    """The known key of that section nearest to the last part of `path`."""
    section: Any = Params
    for part in path[:-1]:
        section = section.model_fields[part].annotation
    near = difflib.get_close_matches(path[-1], section.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(section.model_fields)}"


def _error(path: Path, mistakes: list[str], found: str = "") -> PipelineError:
    count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
    return PipelineError(
        "the parameters are not valid",
        found=found or "\n".join([count, *mistakes]),
        expected="the keys, types and ranges of src/params.py",
        where=path,
        run=f"git diff {path}   # mend it, then: dvc repro",
    )
