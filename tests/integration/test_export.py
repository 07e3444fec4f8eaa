"""tools.export: ONNX files that compute what torch computes."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from src.data.dataset import save_dataset
from src.models.inference import Classifier
from src.models.model_file import ModelMetadata, save_model
from src.params import Normalize
from src.registry import create_model
from src.runtime.errors import PipelineError
from tests.helpers import DIGITS, ROOT, commit, is_error, random_dataset, run
from tools import export, predict
from tools.export import TEST_SET, ProbabilityModel, compare, to_onnx
from tools.predict import MODEL

EXPORT = ["python", "-m", "tools.export", "model.onnx"]


@pytest.mark.parametrize(
    ("name", "side", "channels", "test_time_augmentation"),
    [
        ("tiny", 28, 1, False),
        ("micro", 28, 1, True),
        ("resnet18", 32, 3, False),
        ("mobilenet_v3_small", 32, 1, False),
    ],
)
def test_onnx_file_gives_the_probabilities_of_torch_for_any_batch_size(
    name: str, side: int, channels: int, test_time_augmentation: bool
) -> None:
    """The next two tests export `dash32` and `net`."""
    torch.manual_seed(0)
    net = create_model(name, 10, (channels, side, side))
    with torch.no_grad():
        net.train()(torch.randn(20, channels, side, side))  # new batch norm layers do nearly nothing
    normalize = Normalize(mean=[0.3] * channels, std=[0.2] * channels)
    classifier = ProbabilityModel(Classifier(net, normalize, test_time_augmentation))
    images = random_dataset(50, side=side, channels=channels).images
    model = to_onnx(classifier, images[:2], {"classes": json.dumps(DIGITS)})
    for count in (1, 50):
        _, different, largest = compare(classifier, model, images[:count])
        assert different == 0
        assert largest < 1e-5


def test_export_of_a_trained_model_has_its_classes_and_its_commit(clone: Path) -> None:
    trained = run(["git", "rev-parse", "HEAD"], clone).stdout.strip()
    (clone / "notes.txt").write_text("later")
    commit(clone, "later")
    done = run(EXPORT, clone)
    assert done.stdout.startswith("exporting dash32 and running it on 110 test images ...\n")
    assert "0 of 110 test images change class" in done.stdout
    assert f"commit {trained}" in done.stdout
    properties = {item.key: item.value for item in onnx.load(clone / "model.onnx").metadata_props}
    assert properties == {
        "network": "dash32",
        "classes": json.dumps(DIGITS),
        "fit": "pad",
        "background": "white",
        "commit": trained,
    }
    assert not run(["git", "status", "--porcelain"], clone).stdout  # git ignores the file


@pytest.mark.parametrize(("fit", "channels"), [("pad", 3), ("crop", 1), ("stretch", 3)])
def test_script_in_your_data_md_reads_and_classifies_images_as_predict_does(
    fit: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    metadata = ModelMetadata(
        network="squeezenet1_1",
        classes=DIGITS,
        input_shape=(channels, 32, 32),
        dataset="folder",
        fit=fit,
        normalize=Normalize(mean=[0.3] * channels, std=[0.2] * channels),
        fingerprint={},
    )
    torch.manual_seed(0)
    save_model(MODEL, create_model(metadata.network, 10, metadata.input_shape), metadata)
    save_dataset(TEST_SET, random_dataset(10, side=32, channels=channels))
    monkeypatch.setattr("sys.argv", ["export", "model.onnx"])
    export.main()

    turned, names = Image.Exif(), ["transparent.png", "palette.png", "turned.jpg", "turned.tiff", "16 bits.png"]
    turned[0x0112] = 6  # a quarter turn
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (25, 40, 4), np.uint8))
    noise.save(names[0])
    noise.convert("L").convert("P").save(names[1], transparency=7)
    noise.convert("RGB").save(names[2], exif=turned)
    noise.convert("RGB").save(names[3], exif=turned)
    Image.fromarray(np.asarray(noise.convert("L"), np.uint16) * 257).save(names[4])
    monkeypatch.setattr("sys.argv", ["predict", *names])
    capsys.readouterr()
    predict.main()
    expected = capsys.readouterr().out.replace("   unsure", "")
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/your-data.md").read_text(), re.DOTALL)
    Path("script.py").write_text(script)
    found = runpy.run_path("script.py")
    assert capsys.readouterr().out == expected
    arrays = predict.read_images(names, metadata)
    assert all(np.array_equal(found["read"](name), array) for name, array in zip(names, arrays, strict=True))


def test_network_of_more_than_2_gb_is_an_error() -> None:
    with torch.device("meta"):  # without memory for its weights
        net = create_model("vit_h_14", 10, (3, 224, 224))
    classifier = ProbabilityModel(Classifier(net, Normalize(mean=[0.3] * 3, std=[0.2] * 3), False))
    with pytest.raises(PipelineError, match=r"2,5\d\d,\d{3},\d{3} bytes.*\nhint: dvc exp run -S model.name=resnet18"):
        to_onnx(classifier, np.zeros((2, 224, 224, 3), np.uint8), {})


def test_damaged_model_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    done = run([*EXPORT, "--model", "model.safetensors"], tmp_path, check=False, PYTHONPATH=str(ROOT))
    assert is_error(done, "is not a model")
    assert not (tmp_path / "model.onnx").exists()
