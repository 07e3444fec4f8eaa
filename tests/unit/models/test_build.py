"""Random weights, and pretrained weights from files on this machine."""

import hashlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from src.models.build import build_network, load_pretrained
from src.models.registry import Shape, create_model
from src.params.model import ModelParams
from src.runtime.errors import PipelineError
from tests.helpers import MNIST, UNREACHABLE

COLOR = (3, 32, 32)
DEFAULT = (3, 224, 224)


def test_random_weights_depend_only_on_the_seed() -> None:
    nets = [build_network(ModelParams(name="dash", pretrained=False), 10, MNIST, seed) for seed in (1, 1, 2)]
    first, same, other = (nn.utils.parameters_to_vector(net.parameters()) for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


class Server:
    """A folder of this test from which torchvision downloads weights."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.cache = folder / "torch home/hub/checkpoints"

    def publish(self, network: str, content: object, digits: str = "") -> Path:
        """Save the default weights of a network, and return where torch will cache them."""
        path = self.folder / "content"
        torch.save(content, path)
        path = path.rename(self.folder / f"{network}-{digits or hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
        self.set_url(network, path.as_uri())
        return self.cache / path.name

    def set_url(self, network: str, url: str) -> None:
        member = models.get_model_weights(network).DEFAULT
        self.monkeypatch.setattr(member, "_value_", replace(member.value, url=url))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    return Server(tmp_path, monkeypatch)


def resnet18(classes: int) -> dict[str, Tensor]:
    return models.resnet18(num_classes=classes).state_dict()


def test_pretrained_weights_are_downloaded_once_and_the_head_keeps_its_classes(server: Server) -> None:
    content, settings = resnet18(1000), ModelParams(name="resnet18", pretrained=True)
    server.publish("resnet18", content)
    torch.manual_seed(3)
    untrained = create_model("resnet18", 5, MNIST).state_dict()
    for origin in ("server", "cache"):
        net = build_network(settings, 5, MNIST, seed=3)
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, untrained[name] if name.startswith("fc.") else content[name]), (name, origin)
        (cached,) = server.cache.iterdir()
        server.set_url("resnet18", f"{UNREACHABLE}/{cached.name}")


def error_of(name: str = "resnet18", shape: tuple[int, int, int] = COLOR) -> str:
    with pytest.raises(PipelineError) as error:
        load_pretrained(create_model(name, 5, shape), name, shape)
    return str(error.value)


def test_downloaded_file_with_another_hash_is_refused(server: Server) -> None:
    server.publish("resnet18", resnet18(5), digits="0123abcd")
    error = error_of()
    assert error.startswith("error: the pretrained weights of resnet18 cannot be downloaded from file:///")
    assert 'resnet18-0123abcd.pth: invalid hash value (expected "0123abcd", got "' in error
    assert not list(server.cache.iterdir())


def test_cached_file_with_another_hash_is_refused(server: Server) -> None:
    """torch checks the hash of downloads only."""
    cached = server.publish("resnet18", {})
    server.cache.mkdir(parents=True)
    cached.write_bytes(b"no weights")
    digest = hashlib.sha256(b"no weights").hexdigest()
    assert error_of() == (
        f"error: {cached} is damaged: its SHA-256 is {digest}\nhint: rm '{cached}'   # then: dvc repro"
    )


def test_unreachable_server_is_an_error_that_names_the_file_to_copy_and_where(server: Server) -> None:
    server.set_url("resnet18", f"{UNREACHABLE}/models/resnet18-f37072fd.pth")
    error, cached = error_of(), server.cache / "resnet18-f37072fd.pth"
    assert error.startswith(
        "error: the pretrained weights of resnet18 cannot be downloaded from "
        f"{UNREACHABLE}/models/resnet18-f37072fd.pth: <urlopen error "
    )
    assert error.endswith(
        f"\nhint: cp /path/to/resnet18-f37072fd.pth '{cached}'   # downloaded elsewhere; then: dvc repro"
    )
    assert cached.parent.is_dir()


def test_images_that_a_network_does_not_accept_are_an_error() -> None:
    with pytest.raises(PipelineError) as error:
        build_network(ModelParams(name="convnext_tiny", pretrained=False), 2, (1, 28, 32), seed=0)
    first, cause, hint = str(error.value).split("\n")
    assert first.endswith("convnext_tiny, which does not accept images of shape (1, 28, 32) (channels, height, width):")
    assert "Kernel size can't be greater than actual input size" in cause
    assert hint == "hint: dvc exp run -S model.name=resnet18   # or mobilenet_v3_small: they accept all sizes"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 250, 250)])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_networks_that_the_hint_recommends_accept_every_size(name: str, shape: Shape) -> None:
    build_network(ModelParams(name=name, pretrained=False), 2, shape, seed=0)


def test_networks_and_sizes_without_pretrained_weights_are_errors() -> None:
    assert error_of("net", MNIST) == (
        "error: there are no pretrained weights for net\nhint: dvc exp run -S model.pretrained=false"
    )
    assert error_of("vit_b_16", (3, 64, 64)) == (
        "error: the pretrained vit_b_16 accepts only 224 x 224 pixels\nhint: dvc exp run -S prepare.image_size=224"
    )


def test_layer_names_of_older_vision_transformers_are_converted(server: Server) -> None:
    """torchvision's files of vit_* call the linear layers of a block linear_1 and linear_2, its code 0 and 3."""

    def tiny_vit(classes: int) -> nn.Module:
        return VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=classes)

    source, net = tiny_vit(1000), tiny_vit(5)
    content, versions = OrderedDict(), source.state_dict()._metadata
    for name, tensor in source.state_dict().items():
        content[name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")] = tensor
    content._metadata = OrderedDict((name, {"version": 1}) for name in versions)
    server.publish("vit_b_16", content)
    load_pretrained(net, "vit_b_16", DEFAULT)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) != name.startswith("heads."), name
