"""params.yaml is a closed, typed schema: every mistake is listed by its dotted key, all at once."""

import os
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml
from pydantic import ValidationError

from src.params import Normalize, Params, check_params, load_params, load_yaml, override, read_recipe
from src.registry import MODELS
from src.runtime.errors import PipelineError
from tests.helpers import ROOT

TEXT = (ROOT / "params.yaml").read_text()
for key, value in {  # whatever the default recipe is
    "name": "net",
    "epochs": "3",
    "batch_size": "128",
    "optimizer": "muon",
    "learning_rate": "0.04",
    "schedule": "linear",
    "warmup": "0.1",
    "portable": "false",
    "calibration_bins": "15",
    "normalize": "auto",
}.items():
    TEXT = re.sub(rf"(  {key}: )\S+", rf"\g<1>{value}", TEXT)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load_text(text: str) -> Params:
    Path("params.yaml").write_text(text)
    return load_params(Path("params.yaml"))


def error_of(text: str) -> str:
    with pytest.raises(PipelineError) as error:
        load_text(text)
    return str(error.value)


def test_valid_file_is_loaded() -> None:
    assert load_text(TEXT).train.epochs == 3
    assert load_text(TEXT).model.name == "net"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  epochs: 3", "  epoch: 2", "train.epoch: unknown key; did you mean epochs?"),
        ("  epochs: 3", "", "train.epochs: missing"),
        ("  epochs: 3", "  epochs: two", "train.epochs: found 'two', expected a valid number"),
        ("  epochs: 3", "  epochs: true", "train.epochs: found True, expected a valid number"),
        ("  epochs: 3", "  epochs: 1:30", "train.epochs: found '1:30', expected a valid number"),
        ("  epochs: 3", "  epochs: 3\n  epochs: 3", "is not valid YAML: while constructing a mapping"),
        ("  epochs: 3", "  epochs: 0", "train.epochs: found 0, expected greater than 0"),
        ("  epochs: 3", "  epochs: [2", "params.yaml is not valid YAML: while parsing a flow sequence"),
        (
            "  epochs: 3",
            "  epochs: !!python/object/apply:os.system [ls]",
            "is not valid YAML: could not determine a con",
        ),
        ("  batch_size: 128", "  batch_size: 2.5", "train.batch_size: found 2.5, expected a valid integer"),
        ("  portable: false", "  portable: 1", "train.portable: found 1, expected a valid boolean"),
        ("  portable: false", "  portable: yes", "train.portable: found 'yes', expected a valid boolean"),
        ("rate: 0.04", "rate: -0.02", "train.learning_rate: found -0.02, expected greater than 0"),
        ("rate: 0.04", "rate: .nan", "train.learning_rate: found nan, expected a finite number"),
        ("rate: 0.04", "rate: .inf", "train.learning_rate: found inf, expected a finite number"),
        ("rate: 0.04", "rate: '0.02'", "train.learning_rate: found '0.02', expected a valid number"),
        ("optimizer: muon", "optimizer: adam", "train.optimizer: found 'adam', expected 'sgd', 'adamw' or 'muon'"),
        ("schedule: linear", "schedule: step", "train: schedule `step` has no warmup: set train.warmup to 0"),
        ("  name: net", "  name: Net", "model.name: unknown model `Net`; did you mean net?"),
        ("  name: net", "  name: 5", "model.name: found 5, expected a valid string"),
        ('  group: ""', "  group: (", "prepare.group: `(` is not a regular expression: missing ), unterminated"),
        (
            '  group: ""',
            "  group: a{9999999999}",
            "prepare.group: `a{9999999999}` is not a regular expression: the rep",
        ),
        ('  group: ""', f"  group: {'(' * 3000}{')' * 3000}", "is not a regular expression: maximum recursion depth"),
        ("  normalize: auto", "  normalize: 0.5", "train.normalize: found 0.5, expected a valid dictionary"),
        ("  normalize: auto", "  normalize:", "train.normalize.mean: missing"),
        (
            "  normalize: auto",
            "  normalize: {mean: 0.5, std: [0.5]}",
            "train.normalize.mean: found 0.5, expected a valid l",
        ),
        (
            "  normalize: auto",
            "  normalize: {mean: [0.5], std: [0]}",
            "train.normalize.std.0: found 0, expected greater",
        ),
        ("  image_size: 28", "  image_size: 7", "prepare.image_size: found 7, expected greater than or equal to 8"),
        ("  channels: 1", "  channels: 2", "prepare.channels: found 2, expected 1 or 3"),
        ("  fit: pad", "  fit: fill", "prepare.fit: found 'fill', expected 'pad', 'crop' or 'stretch'"),
        (
            "  brightness: 0",
            "  brightness: 2",
            "train.augmentation.brightness: found 2, expected less than or equal to 1",
        ),
        ("  calibration_bins: 15", "  {}", "evaluate.calibration_bins: missing"),
        ("evaluate:", "evaluated:", "evaluated: unknown key; did you mean evaluate?"),
        ("evaluate:", "zebra:", "zebra: unknown key; known keys: prepare, inspect, model, train, evaluate, plot"),
    ],
)
def test_mistake_is_listed_by_its_dotted_key(old: str, new: str, expected: str) -> None:
    assert old in TEXT
    assert expected in error_of(TEXT.replace(old, new, 1))


def test_all_mistakes_are_listed_at_once_and_aligned() -> None:
    text = TEXT.replace("  epochs: 3", "  epochz: 1", 1).replace("batch_size: 128", "batch_size: many")
    assert error_of(re.sub(r"  dpi: \d+", "  dpy: 100", text)) == "\n".join(
        [
            "error: params.yaml has 5 mistakes:",
            "       train.epochs: missing",
            "       train.batch_size: found 'many', expected a valid integer",
            "       train.epochz: unknown key; did you mean epochs?",
            "       plot.dpi: missing",
            "       plot.dpy: unknown key; did you mean dpi?",
            "hint: dvc params diff   # correct the values, then: dvc repro",
        ]
    )


def test_message_about_one_mistake_is_singular() -> None:
    assert error_of(TEXT.replace("  epochs: 3", "", 1)).startswith("error: params.yaml has 1 mistake:\n")


def test_numbers_match_those_in_dvc_lock() -> None:
    """dvc.lock names the value that was used."""
    numbers = ["1e-3", "0200", "3.", ".5", "-0", "0x1f", "0b1", "0o17", "1_000", "1:30", ".inf", "yes", "true", "08"]
    text = "\n".join(f"{index}: {number}" for index, number in enumerate(numbers))
    assert repr(load_yaml(text)) == repr(parse_yaml(text, "params.yaml"))


def test_nested_aliases_are_an_error_that_does_not_expand_them() -> None:
    """17 lists of two aliases each print as 131,072 items, and 40 would fill the memory."""
    bomb = "bomb:\n  - &a0 [x]\n" + "".join(f"  - &a{n + 1} [*a{n}, *a{n}]\n" for n in range(17))
    tracemalloc.start()
    try:
        assert "train.epochs: found [" in error_of(bomb + TEXT.replace("  epochs: 3", "  epochs: *a17", 1))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"\x00", b"[" * 600, b"1: 2"])
def test_content_other_than_sections_is_an_error(content: bytes) -> None:
    Path("params.yaml").write_bytes(content)
    with pytest.raises(PipelineError, match=r"params\.yaml (has|is not valid YAML)"):
        load_params(Path("params.yaml"))


def test_missing_file_is_an_error(folder: Path) -> None:
    with pytest.raises(PipelineError, match=re.escape(f"params.yaml does not exist in {folder}")):
        load_params(Path("params.yaml"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "step", "warmup": 0.1}, "schedule `step` has no warmup: set train.warmup to 0"),
        ({"precision": "bf16", "device": "mps"}, "set train.precision to fp32"),
        ({"processes": 2, "device": "mps"}, "set train.device to auto"),
        ({"portable": True, "device": "cuda"}, "set train.device and train.precision to auto"),
        ({"portable": True, "precision": "bf16"}, "set train.device and train.precision to auto"),
        ({"freeze_epochs": 5, "epochs": 5.0}, "train.freeze_epochs leaves no epoch for random weights"),
    ],
)
def test_contradictions_in_train_are_errors(params: Params, changes: dict[str, object], message: str) -> None:
    values = params.model_dump()
    values["train"] |= changes
    with pytest.raises(ValidationError, match=re.escape(message)):
        Params.model_validate(values)


def with_model(params: Params, name: str, **changes: object) -> dict[str, Any]:
    values = params.model_dump()
    values["model"]["name"] = name
    values["train"] |= changes
    return values


@pytest.mark.parametrize("name", MODELS)
def test_schema_accepts_every_registered_network(params: Params, name: str) -> None:
    """A new network needs one entry in `MODELS`."""
    assert Params.model_validate(with_model(params, name)).model.name == name


def for_images(params: Params, name: str, channels: int, side: int, **train: object) -> dict[str, Any]:
    """Return values for a network and the images of a folder."""
    values = with_model(params, name, **train)
    values["prepare"] |= {"dataset": "folder", "channels": channels, "image_size": side}
    return values


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [("net", 1, 28), ("resnet18", 1, 28), ("resnet18", 3, 224), ("vit_b_16", 3, 64), ("regnet_y_400mf", 3, 64)],
)
def test_network_that_accepts_the_images_is_valid(params: Params, name: str, channels: int, side: int) -> None:
    assert Params.model_validate(for_images(params, name, channels, side)).model.name == name


@pytest.mark.parametrize(
    ("name", "channels", "side", "train", "message"),
    [
        ("net", 3, 64, {}, "`net` does not accept color images of 64 x 64 pixels; resnet18 and "),
        ("convnext_tiny", 1, 28, {}, "`convnext_tiny` does not accept gray images of 28 x 28 pixels; resnet18 and "),
        (
            "resnet18", 3, 64, {"normalize": {"mean": [0.5], "std": [0.5]}},
            "train.normalize needs one mean and one std per channel (3), or auto",
        ),
        (
            "resnet18", 3, 64, {"normalize": {"mean": [0.5] * 3, "std": [0.5] * 2}},
            "train.normalize needs one mean and one std per channel (3), or auto",
        ),
        (
            "resnet18", 1, 64, {"normalize": {"mean": [0.5] * 3, "std": [0.5] * 3}},
            "train.normalize needs one mean and one std per channel (1), or auto",
        ),
    ],
)  # fmt: skip
def test_network_that_does_not_fit_the_images_is_an_error(
    params: Params, name: str, channels: int, side: int, train: dict[str, object], message: str
) -> None:
    with pytest.raises(PipelineError) as error:
        check_params(for_images(params, name, channels, side, **train))
    assert str(error.value).startswith(f"error: params.yaml has 1 mistake:\n       {message}")


def test_without_a_check_of_the_model_no_torch_is_imported(folder: Path) -> None:
    """The stage `plot` loads params.yaml like this, because importing torchvision takes seconds."""
    (folder / "params.yaml").write_text(TEXT.replace("name: net", "name: resnet18"))
    code = "import sys; from pathlib import Path; from src.params import load_params"
    code += "; load_params(Path('params.yaml'), check_model=False)"
    code += "; assert not {'torch', 'torchvision'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def test_saturation_needs_color_images(params: Params) -> None:
    for channels, message in ((3, ""), (1, "train.augmentation.saturation needs color images: set it to 0")):
        values = for_images(params, "resnet18", channels, 64)
        values["train"]["augmentation"]["saturation"] = 0.5
        if message:
            with pytest.raises(PipelineError, match=message):
                check_params(values)
        else:
            assert check_params(values).train.augmentation.saturation == 0.5


def test_shift_has_to_leave_half_of_the_image(params: Params) -> None:
    values = for_images(params, "resnet18", 3, 64)
    values["train"]["augmentation"]["shift"] = 31.9
    assert check_params(values).train.augmentation.shift == 31.9
    values["train"]["augmentation"]["shift"] = 32.0
    with pytest.raises(PipelineError, match=r"train\.augmentation\.shift is half of prepare\.image_size or more"):
        check_params(values)


@pytest.mark.parametrize("change", [{"image_size": 32}, {"channels": 3}])
@pytest.mark.parametrize("dataset", ["mnist", "fashion-mnist"])
def test_downloaded_data_sets_have_one_format(params: Params, dataset: str, change: dict[str, int]) -> None:
    values = params.model_dump()
    values["prepare"] |= {"dataset": dataset, **change}
    with pytest.raises(PipelineError, match=f"prepare: {dataset} has gray images of 28 x 28 pixels: set image_size to"):
        check_params(values)


def test_pretrained_weights_need_a_network_of_torchvision(params: Params) -> None:
    values = for_images(params, "resnet18", 3, 64)
    values["model"]["pretrained"] = True
    assert check_params(values).model.pretrained
    values = with_model(params, "net")
    values["model"]["pretrained"] = True
    with pytest.raises(PipelineError, match=r"`net` has no pretrained weights: set model\.pretrained to false"):
        check_params(values)


def test_normalize_is_auto_or_a_list_per_channel(params: Params) -> None:
    values = for_images(params, "resnet18", 3, 64, normalize="auto")
    assert check_params(values).train.normalize is None
    assert check_params(values).model_dump()["train"]["normalize"] == "auto"
    values["train"]["normalize"] = given = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert check_params(values).train.normalize == Normalize(**given)
    assert check_params(check_params(values).model_dump()).model_dump()["train"]["normalize"] == given


def test_recipe_is_read_by_dotted_key() -> None:
    Path("recipe.txt").write_text("--set-param=train.epochs=1e-1\n--set-param=model.name=tiny\n")
    assert read_recipe(Path("recipe.txt")) == {"train.epochs": 0.1, "model.name": "tiny"}


def test_override_sets_nested_values_in_place() -> None:
    values = {"train": {"augmentation": {"flip": 0}, "epochs": 1}}
    override(values, {"train.augmentation.flip": 0.5, "train.epochs": 2})
    assert values == {"train": {"augmentation": {"flip": 0.5}, "epochs": 2}}
    with pytest.raises(KeyError):
        override(values, {"training.epochs": 1})
