"""The closed, typed schema of params.yaml: every key required, none unknown, and every mistake listed at once."""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from src.errors import PipelineError

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


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml carries no types
    """Reads numbers as DVC does (YAML 1.2): 1e-3 is a float; PyYAML's own rules make 010 an 8 and 1:30 a 90."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9]\d*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_params(path: Path) -> Params:
    """Read and check the parameters.

    Raises PipelineError that lists every mistake with its line: unknown key (and the nearest known one), missing key,
    wrong type, out of range, contradiction, duplicate key, tag or alias, and text that is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mistakes = list(_tags_and_aliases(text))
        node = None if mistakes else yaml.compose(text, Loader=_Loader)
        lines: dict[tuple[str, ...], int] = {}
        mistakes += _duplicates(node, (), lines)
        values = None if mistakes else yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except FileNotFoundError:
        raise _error(path, [], found="no such file") from None
    except UnicodeDecodeError as error:
        raise _error(path, [], found=f"not UTF-8 text, at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _error(path, [f"line {mark.line + 1 if mark else 0}: not YAML: {error.problem}"]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _error(path, [], found=f"not YAML: {str(error).splitlines()[0]}") from None
    if mistakes:
        raise _error(path, mistakes)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise _error(path, [_describe(item, lines) for item in error.errors()]) from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The values by dotted key ("train.epochs") of a file of lines `--set-param=key=value`, as `dvc exp run` takes."""
    pairs = (line.removeprefix("--set-param=").split("=", 1) for line in path.read_text().split())
    return {key: read_value(value) for key, value in pairs}


def read_value(text: str) -> Any:
    """One value as params.yaml would have it: 1e-3 is a number."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader


def set_values(values: dict[str, Any], settings: Mapping[str, object]) -> None:
    """Change nested parameters in place, by dotted key; raises KeyError for an unknown section."""
    for name, value in settings.items():
        *section, key = name.split(".")
        reduce(getitem, section, values)[key] = value


def _tags_and_aliases(text: str) -> Iterator[str]:
    """Explicit tags could name types, aliases could grow without bound: plain values need neither."""
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if getattr(event, "tag", None) is not None:
            yield f"line {line}: tag {event.tag}: expected a plain value"
        if getattr(event, "anchor", None) is not None:
            yield f"line {line}: anchor or alias {event.anchor}: expected a plain value"


def _duplicates(node: yaml.Node | None, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> Iterator[str]:
    """Yield every key that stands twice, and note the line of each key in `lines`."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*path, str(key.value))
        line = key.start_mark.line + 1
        if here in lines:
            yield f"line {line}: {'.'.join(here)}: stands twice, first on line {lines[here]}"
        lines.setdefault(here, line)
        yield from _duplicates(value, here, lines)


def _describe(item: Any, lines: dict[tuple[str, ...], int]) -> str:
    """One mistake as `line N: key: what is wrong`."""
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
    line = lines.get(path)
    return f"line {line}: {name}: {message}" if line else f"{name}: {message}"


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
        found=found or "\n            ".join([count, *mistakes]),
        expected="the keys, types and ranges of src/params.py",
        where=path,
        run=f"git diff {path}   # mend it, then: dvc repro",
    )
