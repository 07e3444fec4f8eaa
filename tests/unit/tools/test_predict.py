"""Predictions of one image, and models and files that tools.predict refuses."""

from pathlib import Path

import pytest
import torch

from src.models.model_file import ModelMetadata, save_model
from src.params import Params
from src.registry import MODELS, ModelSpec, create_model
from src.runtime.errors import PipelineError
from tests.helpers import DIGITS
from tests.images import encode, printed
from tools import predict
from tools.predict import load_image, top_k


def test_top_k_returns_the_most_probable_classes_in_order() -> None:
    assert top_k("a.png", torch.tensor([0.04, 0.95, 0.01]), ("x", "y", "z"), k=2) == {
        "image": "a.png",
        "predicted": "y",
        "sure": True,
        "top": [{"class": "y", "probability": 0.95}, {"class": "x", "probability": 0.04}],
    }


def test_top_k_is_unsure_below_a_confidence_of_90_percent_and_returns_at_most_all_classes() -> None:
    result = top_k("a.png", torch.tensor([0.89, 0.11]), ("x", "y"), k=9)
    assert not result["sure"]
    assert len(result["top"]) == 2


def test_file_that_is_not_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"seven")
    with pytest.raises(PipelineError, match=r"image\.png cannot be read: cannot identify .*\n.*a PNG or JPEG of one"):
        load_image(str(tmp_path / "image.png"), DIGITS)
    with pytest.raises(PipelineError, match="No such file or directory"):
        load_image(str(tmp_path / "no.png"), DIGITS)


def test_digit_is_extracted_only_if_the_classes_are_digits(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(encode(printed("7", paper="white"), "PNG"))
    assert load_image(str(tmp_path / "image.png"), DIGITS)[0, 0] == 0  # black background
    assert load_image(str(tmp_path / "image.png"), ("cat", "dog"))[0, 0] == 255  # the image as it is


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 28, 28)])
def test_model_for_another_input_shape_is_one_error(
    shape: tuple[int, int, int],
    tmp_path: Path,
    params: Params,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(MODELS, "other", ModelSpec("src.models.small:Tiny", "head", (32, 28), (3, 1)))
    metadata = ModelMetadata(
        network="other", classes=DIGITS, input_shape=shape, normalize=params.train.normalize, fingerprint={}
    )
    save_model(tmp_path / "model.safetensors", create_model("other", 10), metadata)
    (tmp_path / "image.png").write_bytes(encode(printed(), "PNG"))
    monkeypatch.setattr(
        "sys.argv", ["predict", str(tmp_path / "image.png"), "--model", str(tmp_path / "model.safetensors")]
    )
    with pytest.raises(SystemExit, match="1"):
        predict.main()
    output = capsys.readouterr()
    assert output.out == ""
    assert f"reads images of shape {shape}, expected (1, 28, 28)" in output.err
    assert [line.split(":")[0] for line in output.err.splitlines()] == ["error", "hint"]
