"""Inference and evaluation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models import inference
from src.models.inference import EVALUATION_BATCH, Classifier, evaluate, get_correct_prediction_count, predict
from src.models.registry import create_model
from src.preprocessing import Normalization
from tests.helpers import MNIST, random_dataset

CPU = torch.device("cpu")


def plain(net: nn.Module, channels: int = 1) -> Classifier:
    return Classifier(net, Normalization(mean=[0.2] * channels, std=[0.3] * channels), test_time_augmentation="none")


@pytest.mark.parametrize("channels", [1, 3])
def test_predict_reads_batches_of_at_most_2_500_000_pixels(channels: int) -> None:
    """At 300 x 300 pixels, that is 27 images."""
    sizes = []

    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape))
            return images.mean(dim=(2, 3)).repeat(1, 2)

    data = random_dataset(30, side=300, channels=channels)
    assert predict(plain(Mean(), channels), data.images, CPU).shape == (30, 2 * channels)
    assert sizes == [(27, channels, 300, 300), (3, channels, 300, 300)]


def test_prediction_does_not_change_the_network() -> None:
    net = create_model("dash", 10, MNIST).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    predict(plain(net), random_dataset(4).images, CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_loss_and_accuracy_are_means_over_images_and_balanced_accuracy_over_classes() -> None:
    """507 images in batches of 500 and 7 have the metrics of one batch of 507."""
    data, net = random_dataset(EVALUATION_BATCH + 7), create_model("dash", 10, MNIST).eval()
    metrics = evaluate(plain(net), data, CPU)
    with torch.no_grad():
        logits = net((torch.tensor(data.images)[:, None] / 255 - 0.2) / 0.3)
    labels = torch.tensor(data.labels).long()
    assert metrics["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    correct = logits.argmax(dim=1) == labels
    assert metrics["accuracy"] == correct.sum().item() / 507
    recalls = [correct[labels == label].float().mean().item() for label in set(labels.tolist())]
    assert metrics["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))


@pytest.mark.parametrize(("channels", "kind"), [(1, "shift"), (3, "shift"), (1, "mirror"), (3, "mirror")])
def test_close_probabilities_are_the_mean_over_copies(
    channels: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four predictions are close."""
    classifier = plain(create_model("resnet18", 10, (channels, 32, 32)), channels)
    images = random_dataset(4, side=32, channels=channels).images
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)][: images.ndim], mode="edge")
    shifted = [padded[:, y : y + 32, x : x + 32] for y, x in ((0, 1), (2, 1), (1, 0), (1, 2))]
    mirrored = [np.ascontiguousarray(copy[:, :, ::-1]) for copy in (images, *shifted)]
    copies = shifted if kind == "shift" else [*shifted, *mirrored]
    alone, *others = (predict(classifier, copy, CPU).exp() for copy in (images, *copies))
    first, second = alone.log().topk(2, dim=1).values.T
    monkeypatch.setattr(inference, "CLOSE", (first - second).sort().values[1:3].mean().item())
    close = first - second < inference.CLOSE
    classifier.test_time_augmentation = kind
    found = predict(classifier, images, CPU).exp()
    assert torch.allclose(found[close], torch.stack([alone, *others]).mean(dim=0)[close], atol=1e-6)
    assert (found - alone).abs().amax(dim=1).gt(1e-4).tolist() == close.tolist()
    assert close.sum() == 2


def test_correct_predictions_are_counted() -> None:
    outputs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert get_correct_prediction_count(outputs, torch.tensor([0, 1, 1])) == 2
