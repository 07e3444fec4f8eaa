"""The closed, typed schema of params.yaml: every key required, none unknown, and every mistake listed at once."""

import difflib
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.tokens import AliasToken, AnchorToken

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


def load_params(path: Path) -> Params:
    """Read and check the parameters.

    Raises PipelineError that lists every mistake with its line: unknown key (and the nearest known one), missing key,
    wrong type, out of range, contradiction; or the first duplicate key, tag, anchor, merge, or text that is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        for token in YAML().scan(text):  # aliases could grow without bound: plain values need none
            if isinstance(token, AnchorToken | AliasToken) or getattr(token, "value", None) == "<<":
                raise ValueError(f"line {token.start_mark.line + 1}: {token.id} {token.value}: expected a plain value")
        return Params.model_validate(read_value(text))
    except ValidationError as error:
        found = _describe(error, YAML().load(text))
    except (OSError, ValueError, YAMLError, RecursionError) as error:
        found = str(error)
    raise PipelineError(
        "the parameters are not valid",
        found=found,
        expected="the keys, types and ranges of src/params.py",
        where=path,
        run=f"git diff {path}   # mend it, then: dvc repro",
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """The values by dotted key ("train.epochs") of a file of lines `--set-param=key=value`, as `dvc exp run` takes."""
    pairs = (line.removeprefix("--set-param=").split("=", 1) for line in path.read_text().split())
    return {key: read_value(value) for key, value in pairs}


def read_value(text: str) -> Any:
    """Read YAML 1.2, as DVC does: 1e-3 is a number; raises YAMLError, also for a key that comes twice."""
    return YAML(typ="safe", pure=True).load(text)


def set_values(values: dict[str, Any], settings: Mapping[str, object]) -> None:
    """Change nested parameters in place, by dotted key; raises KeyError for an unknown section."""
    for name, value in settings.items():
        *section, key = name.split(".")
        reduce(getitem, section, values)[key] = value


def _describe(error: ValidationError, places: Any) -> str:
    """Each mistake as `line N: key: what is wrong`; `places` are the values as ruamel.yaml's round trip keeps them."""
    known = [name for section in Section.__subclasses__() for name in section.model_fields]
    mistakes = []
    for item in error.errors():
        line, section, path = "", places, [str(part) for part in item["loc"]]
        for key in path:
            if key in section:
                line, section = f"line {section.lc.key(key)[0] + 1}", section[key]
        found = "" if isinstance(item["input"], dict) else f", found {item['input']!r:.60}"
        near = difflib.get_close_matches(path[-1], known, n=1) if item["type"] == "extra_forbidden" else []
        hint = f"; did you mean {near[0]}?" if near else ""
        mistakes.append(": ".join(filter(None, [line, ".".join(path), f"{item['msg']}{found}{hint}"])))
    return "\n".join(mistakes)
