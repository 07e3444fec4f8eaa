"""Read and check sections of params.yaml. Every key of a section is required, and unknown keys are errors."""

import difflib
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

from src.runtime.errors import PipelineError

HINT = "dvc params diff   # correct the values, then: dvc repro"
UnitInterval = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Refuse unknown keys, `true` for a number, "5" for 5, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def load_sections(path: Path, schemas: Mapping[str, type[Section]]) -> dict[str, Section]:
    """Read and check some sections of params.yaml, and return them by name. `dvc` checks the YAML before.

    Raises:
        PipelineError: a section has mistakes. All mistakes are listed.
    """
    return check_sections(load_yaml(path.read_text(encoding="utf-8")), schemas, path)


def check_sections(values: Any, schemas: Mapping[str, type[Section]], source: object) -> dict[str, Section]:
    """Check sections against their schemas, and return them by name.

    Args:
        values: nested values by key. Other sections are not read.
        schemas: the schema of each section, by its name.
        source: where the values come from, for the error message.

    Raises:
        PipelineError: lists every unknown key (with the nearest known one), missing key, wrong type and value out of
            range.
    """
    sections, problems = {}, []
    for name, schema in schemas.items():
        try:
            sections[name] = schema.model_validate(values[name] if isinstance(values, dict) else None)
        except KeyError:
            problems.append(f"{name}: missing")
        except ValidationError as error:
            problems += [_describe(name, schema, item) for item in error.errors()]
    if problems:
        count = f"{len(problems)} mistake" + "s" * (len(problems) > 1)
        raise PipelineError("\n".join([f"{source} has {count}:", *problems]), HINT)
    return sections


def load_yaml(text: str) -> Any:
    """Parse YAML with the parser of DVC."""
    return YAML(typ="safe").load(text)


def _describe(name: str, schema: type[Section], item: Any) -> str:
    """Return one mistake as "dotted.key: what is wrong"."""
    path = [name, *map(str, item["loc"])]
    if error := item.get("ctx", {}).get("error"):
        message = str(error)
    elif item["type"] == "extra_forbidden":
        message = f"unknown key{_suggest(schema, path[1])}"
    elif item["type"] == "missing":
        message = "missing"
    else:
        expected = item["msg"].removeprefix("Input should be ").split(", unable")[0]
        message = f"found {reprlib.repr(item['input'])}, expected {expected}"
    return f"{'.'.join(path)}: {message}"


def _suggest(schema: type[Section], key: str) -> str:
    """Return the known key nearest to `key`, or all keys."""
    keys = list(schema.model_fields)
    near = difflib.get_close_matches(key, keys, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(keys)}"
