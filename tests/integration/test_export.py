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
from torch import nn

from src.data.dataset import save_split
from src.models import inference
from src.models.inference import Classifier
from src.models.registry import create_model
from src.preprocessing import Normalization
from src.sources.image_file import load_images
from tests.helpers import DIGITS, ROOT, random_dataset, run, save_random_model
from tools import export, predict
from tools.export import largest_difference, to_onnx
from tools.project import MODEL, PREPARED

EXPORT = ["python", "-m", "tools.export", "model.onnx"]


@pytest.mark.parametrize(
    ("name", "shape", "test_time_augmentation"),
    [("dash", (1, 28, 28), "shift"), ("dash", (1, 28, 28), "mirror"), ("mobilenet_v3_small", (3, 32, 32), "none")],
)
def test_onnx_file_gives_the_probabilities_of_torch_for_any_batch_size(
    name: str, shape: tuple[int, int, int], test_time_augmentation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "CLOSE", 0.1)  # some predictions of a random network are not
    torch.manual_seed(0)
    net = create_model(name, 10, shape)
    with torch.no_grad():
        net.train()(torch.randn(20, *shape))  # new batch norm layers do nearly nothing
    normalize = Normalization(mean=[0.3] * shape[0], std=[0.2] * shape[0])
    classifier = nn.Sequential(Classifier(net, normalize, test_time_augmentation), nn.Softmax(dim=1)).eval()
    images = random_dataset(50, side=shape[1], channels=shape[0]).images
    model = to_onnx(classifier, images[:2], {})
    for count in (1, 50):
        assert largest_difference(classifier, model, images[:count]) < 1e-5


def test_export_of_a_trained_model_has_its_classes(clone: Path) -> None:
    done = run(EXPORT, clone)
    assert done.stdout.startswith("exporting dash32 and running it on 110 test images ...\n")
    properties = {item.key: item.value for item in onnx.load(clone / "model.onnx").metadata_props}
    threshold = json.loads((clone / "metrics/evaluate.json").read_text())["threshold"]
    expected = {"network": "dash32", "classes": json.dumps(DIGITS), "fit": "pad", "background": "white"}
    assert properties == expected | {"threshold": str(threshold)}
    assert not run(["git", "status", "--porcelain"], clone).stdout  # git ignores the file


@pytest.mark.parametrize(("fit", "channels"), [("pad", 3), ("crop", 1), ("stretch", 3)])
def test_script_in_your_data_md_reads_and_classifies_images_as_predict_does(
    fit: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_random_model(MODEL, "squeezenet1_1", DIGITS, (channels, 32, 32), "folder", fit)
    save_split(PREPARED, "test", random_dataset(10, side=32, channels=channels))
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
    expected = capsys.readouterr().out
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/your-data.md").read_text(), re.DOTALL)
    Path("script.py").write_text(script)
    found = runpy.run_path("script.py")
    assert capsys.readouterr().out == expected
    arrays = [array for array, _ in load_images([Path(name) for name in names], 32, channels, fit)]
    assert all(np.array_equal(found["read"](name), array) for name, array in zip(names, arrays, strict=True))
