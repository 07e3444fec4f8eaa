"""Weight initialization, pretrained weights from a local server, and the last layer."""

import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from src.models.build import build_network, find_head, init_weights, load_pretrained
from src.params import Params, Train
from src.registry import MODELS, create_model
from src.runtime.errors import PipelineError
from tests.helpers import MNIST, UNREACHABLE

COLOR = (3, 32, 32)


def with_model(params: Params, name: str, pretrained: bool = False, **train: object) -> Params:
    update = {"name": name, "pretrained": pretrained}
    changes: dict[str, Any] = {
        "model": params.model.model_copy(update=update),
        "train": params.train.model_copy(update=train),
    }
    return params.model_copy(update=changes)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", ["pytorch", "kaiming"])
def test_weights_depend_only_on_the_seed(name: str, scheme: str) -> None:
    nets = [create_model(name, 10, MNIST) for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        init_weights(net, scheme, seed)
    first, same, other = (nn.utils.parameters_to_vector(net.parameters()) for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_kaiming_draws_normal_weights_and_zero_biases() -> None:
    """The standard deviation is the square root of 2 / inputs: of 2 / 512 = 1 / 16."""
    layer = nn.Linear(512, 400)
    init_weights(layer, "kaiming", seed=0)
    assert layer.weight.std().item() == pytest.approx(1 / 16, rel=0.01)
    assert layer.bias.eq(0).all()


def test_pytorch_draws_the_defaults_of_the_layers() -> None:
    layer = nn.Linear(512, 400)
    init_weights(layer, "pytorch", seed=3)
    torch.manual_seed(3)
    assert torch.equal(layer.weight, nn.Linear(512, 400).weight)


@pytest.mark.parametrize("scheme", ["pytorch", "kaiming"])
def test_own_network_is_built_with_the_initialization_of_the_settings(params: Params, scheme: str) -> None:
    built = build_network(with_model(params, "net", initialization=scheme, seed=5), 10, MNIST)
    expected = create_model("net", 10, MNIST)
    init_weights(expected, scheme, 5)
    assert all(map(torch.equal, built.parameters(), expected.parameters()))


def test_torchvision_network_keeps_its_own_initialization_and_depends_on_the_seed(params: Params) -> None:
    built, same, other = (
        build_network(with_model(params, "squeezenet1_1", initialization="kaiming", seed=seed), 10, COLOR)
        for seed in (5, 5, 6)
    )
    torch.manual_seed(5)
    expected = create_model("squeezenet1_1", 10, COLOR)
    assert all(map(torch.equal, built.parameters(), expected.parameters()))
    assert all(map(torch.equal, built.parameters(), same.parameters()))
    assert not torch.equal(next(built.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("name", "head"),
    [("net", "fc2"), ("dash", "head"), ("resnet18", "fc"), ("squeezenet1_1", "classifier.1")],
)
def test_head_is_found(name: str, head: str) -> None:
    assert find_head(create_model(name, 10, MNIST)) == head


def prefix_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


class Weights:
    """A local server for weights, torch's cache folder, and a way to make torchvision download from that server."""

    def __init__(self, served: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.served, self.url, self.monkeypatch = served, url, monkeypatch
        self.requests: list[str] = []

    @property
    def cache(self) -> Path:
        return Path(os.environ["TORCH_HOME"], "hub/checkpoints")

    def publish(self, network: str, content: object, digits: str | None = None) -> Path:
        """Serve `content`, saved by torch, as the default weights of a network. Return the file of the server."""
        path = self.served / "content"
        torch.save(content, path)
        path = path.rename(self.served / f"{network}-{digits or prefix_of(path)}.pth")
        self.set_url(network, f"{self.url}/{path.name}")
        return path

    def set_url(self, network: str, url: str) -> None:
        member = models.get_model_weights(network).DEFAULT
        self.monkeypatch.setattr(member, "_value_", replace(member.value, url=url))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weights]:
    """Weights on a server of this test."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    found = Weights(served, "", monkeypatch)

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            found.requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served))) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def resnet18(classes: int, seed: int = 7) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return models.resnet18(num_classes=classes).state_dict()


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_pretrained_weights_are_downloaded_and_the_head_keeps_its_classes(
    params: Params, weights: Weights, shape: tuple[int, int, int]
) -> None:
    content = resnet18(1000)
    file = weights.publish("resnet18", content)
    net = build_network(with_model(params, "resnet18", pretrained=True, seed=3), 5, shape)
    torch.manual_seed(3)
    untrained = create_model("resnet18", 5, shape).state_dict()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, untrained[name] if name.startswith("fc.") else content[name]), name
    assert net(torch.randn(2, *shape)).shape == (2, 5)
    assert (weights.cache / file.name).read_bytes() == file.read_bytes()
    assert weights.requests == [f"/{file.name}"]
    build_network(with_model(params, "resnet18", pretrained=True), 5, shape)
    assert len(weights.requests) == 1  # the second time, the file is on this machine


def test_head_for_the_same_number_of_classes_is_loaded(weights: Weights) -> None:
    content = resnet18(5)
    weights.publish("resnet18", content)
    net = create_model("resnet18", 5, COLOR)
    load_pretrained(net, "resnet18")
    assert all(torch.equal(tensor, content[name]) for name, tensor in net.state_dict().items())


def error_of(name: str = "resnet18", net: nn.Module | None = None) -> PipelineError:
    with pytest.raises(PipelineError) as error:
        load_pretrained(net or create_model(name, 5, COLOR), name)
    return error.value


def test_downloaded_file_with_another_hash_is_refused(weights: Weights) -> None:
    file = weights.publish("resnet18", resnet18(5), digits="0123abcd")
    assert str(error_of()).startswith(
        f"error: the pretrained weights of resnet18 cannot be downloaded from {weights.url}/resnet18-0123abcd.pth: "
        'invalid hash value (expected "0123abcd", got "'
    )
    assert not list(weights.cache.glob("*"))
    assert file.exists()


def test_cached_file_with_a_different_hash_is_refused(weights: Weights) -> None:
    """torch checks the hash of downloads only."""
    file = weights.publish("resnet18", resnet18(5))
    weights.cache.mkdir(parents=True)
    cached = weights.cache / file.name
    torch.save(resnet18(5, seed=8), cached)
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    assert str(error_of()) == (
        f"error: {cached} is damaged: its SHA-256 is {digest}\nhint: rm '{cached}'   # then: dvc repro"
    )
    assert weights.requests == []
    cached.unlink()
    load_pretrained(create_model("resnet18", 5, COLOR), "resnet18")


@pytest.mark.parametrize("content", [b"", b"<html>no weights</html>", b"PK\x03\x04"])
def test_damaged_cached_file_is_refused(weights: Weights, content: bytes) -> None:
    weights.cache.mkdir(parents=True)
    cached = weights.cache / weights.publish("resnet18", {}).name
    cached.write_bytes(content)
    assert str(error_of()).startswith(f"error: {cached} is damaged: its SHA-256 is ")


class Attack:
    """An object that runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("is_cached", [False, True])
def test_file_that_runs_code_is_refused_and_its_code_does_not_run(
    weights: Weights, tmp_path: Path, is_cached: bool, legacy: bool
) -> None:
    """Its name has the right digits: whoever can replace the file can choose them."""
    target = tmp_path / "attacked"
    content = tmp_path / "attack"
    torch.save({"fc.weight": Attack(target)}, content, _use_new_zipfile_serialization=not legacy)
    file = content.rename(weights.served / f"resnet18-{prefix_of(content)}.pth")
    weights.set_url("resnet18", f"{weights.url}/{file.name}")
    if is_cached:
        weights.cache.mkdir(parents=True)
        shutil.copy(file, weights.cache)
    cached = weights.cache / file.name
    assert str(error_of()) == f"error: {cached} contains more than tensors and was not loaded\nhint: rm '{cached}'"
    assert not target.exists()
    torch.load(file, weights_only=False)  # without this protection, the code would run
    assert target.exists()


def test_unreachable_server_is_an_error_that_names_the_file_to_copy_and_where(weights: Weights) -> None:
    weights.set_url("resnet18", f"{UNREACHABLE}/models/resnet18-f37072fd.pth")
    error = error_of()
    assert str(error).startswith(
        "error: the pretrained weights of resnet18 cannot be downloaded from "
        f"{UNREACHABLE}/models/resnet18-f37072fd.pth: <urlopen error [Errno 111] Connection refused>"
    )
    cached = weights.cache / "resnet18-f37072fd.pth"
    assert str(error).endswith(
        f"hint: cp /path/to/resnet18-f37072fd.pth '{cached}'   # downloaded elsewhere; then: dvc repro"
    )
    assert cached.parent.is_dir()


def test_file_missing_on_the_server_is_an_error(weights: Weights) -> None:
    weights.set_url("resnet18", f"{weights.url}/resnet18-f37072fd.pth")
    error = error_of()
    assert ": HTTP Error 404: File not found\n" in str(error)
    assert isinstance(error.__context__, HTTPError)
    error.__context__.close()  # it holds the connection


def test_file_that_was_copied_to_its_place_needs_no_server(weights: Weights) -> None:
    file = weights.publish("resnet18", resnet18(5))
    weights.set_url("resnet18", f"{UNREACHABLE}/{file.name}")
    weights.cache.mkdir(parents=True)
    shutil.copy(file, weights.cache)
    load_pretrained(create_model("resnet18", 5, COLOR), "resnet18")
    assert weights.requests == []


def test_file_without_a_tensor_of_the_body_is_an_error(weights: Weights) -> None:
    content = resnet18(5)
    del content["layer1.0.conv1.weight"], content["fc.bias"]
    file = weights.publish("resnet18", content)
    assert str(error_of()) == (
        f"error: {weights.cache / file.name} has no weights for layer1.0.conv1.weight\n"
        "hint: dvc exp run -S model.pretrained=false"
    )


def test_additional_tensors_are_ignored(weights: Weights) -> None:
    """GoogLeNet's and Inception's files have auxiliary heads, which this project does not use."""
    content = resnet18(5)
    weights.publish("resnet18", {**content, "AuxLogits.conv0.conv.weight": torch.zeros(2)})
    net = create_model("resnet18", 5, COLOR)
    load_pretrained(net, "resnet18")
    assert torch.equal(net.conv1.weight, content["conv1.weight"])


def tiny_vit(classes: int) -> nn.Module:
    return VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=classes)


def test_layer_names_of_older_vision_transformers_are_converted(weights: Weights) -> None:
    """torchvision's files of vit_* call the linear layers of a block linear_1 and linear_2, its code 0 and 3."""
    source = tiny_vit(1000)
    content, versions = OrderedDict(), source.state_dict()._metadata
    for name, tensor in source.state_dict().items():
        content[name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")] = tensor
    content._metadata = OrderedDict((name, {"version": 1}) for name in versions)
    weights.publish("vit_b_16", content)
    net = tiny_vit(5)
    load_pretrained(net, "vit_b_16")
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) != name.startswith("heads."), name


def test_layer_names_of_older_densenets_are_converted(weights: Weights) -> None:
    def densenet(classes: int) -> nn.Module:
        return models.DenseNet(8, (2, 2), 8, num_classes=classes)

    source = densenet(1000)
    content = {}
    for name, tensor in source.state_dict().items():
        for kind in ("norm", "conv"):
            for number in "12":
                name = name.replace(f".{kind}{number}.", f".{kind}.{number}.")
        content[name] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in content
    weights.publish("densenet121", content)
    net = densenet(5)
    load_pretrained(net, "densenet121")
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) != name.startswith("classifier."), name


def test_versions_in_the_file_are_used(weights: Weights) -> None:
    """MNASNet refuses weights without a version."""
    content = create_model("mnasnet0_5", 1000, COLOR).state_dict()
    weights.publish("mnasnet0_5", content)
    net = create_model("mnasnet0_5", 5, COLOR)
    load_pretrained(net, "mnasnet0_5")
    assert torch.equal(net.layers[0].weight, content["layers.0.weight"])


def test_every_setting_of_initialization_is_tested() -> None:
    assert Train.model_fields["initialization"].annotation.__args__ == ("pytorch", "kaiming")
