"""tools.export: ONNX files that compute what torch computes."""

import json
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image

from src.models.inference import Classifier
from src.params import Normalize
from src.registry import create_model
from tests.helpers import DIGITS, ROOT, commit, is_error, random_dataset, run
from tools.export import ProbabilityModel, compare, to_onnx

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
    assert "0 of 110 test images change class" in done.stdout
    assert f"commit {trained}" in done.stdout
    properties = {item.key: item.value for item in onnx.load(clone / "model.onnx").metadata_props}
    assert properties == {"classes": json.dumps(DIGITS), "network": "dash32", "commit": trained}


def test_example_in_the_readme_reads_an_exported_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses neither torch nor this project."""
    readme = (ROOT / "README.md").read_text()
    code = readme[readme.index("import json\n\nimport numpy") :].split("```")[0]
    assert len(code.splitlines()) <= 12
    net = create_model("net", 10, (1, 28, 28))
    images = random_dataset(2).images
    classifier = ProbabilityModel(Classifier(net, Normalize(mean=[0.3], std=[0.2]), test_time_augmentation=False))
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(to_onnx(classifier, images, {"classes": json.dumps(DIGITS)}))
    Image.fromarray(images[1]).save("digit.png")
    expected = classifier(torch.from_numpy(images))[1]
    done = run(["python", "-c", code], tmp_path)
    assert done.stdout.split() == [DIGITS[expected.argmax()], f"{expected.max():.4f}"]


def test_damaged_model_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no model")
    done = run([*EXPORT, "--model", "model.safetensors"], tmp_path, check=False, PYTHONPATH=str(ROOT))
    assert is_error(done, "is not a model")
    assert not (tmp_path / "model.onnx").exists()
