"""Inference and evaluation."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import affine

from src.models.inference import EVALUATION_BATCH, Classifier, evaluate, get_correct_prediction_count, predict
from src.params import Normalize
from src.registry import MODELS, create_model
from tests.helpers import MNIST, random_dataset

CPU = torch.device("cpu")
NORMALIZE = Normalize(mean=[0.1307], std=[0.3081])


@pytest.mark.parametrize("name", MODELS)
def test_predict_returns_log_probabilities_for_every_network(name: str) -> None:
    classifier = Classifier(create_model(name, 7, MNIST), NORMALIZE, test_time_augmentation=False)
    output = predict(classifier, random_dataset(4).images, CPU)
    assert (output.shape, output.dtype) == ((4, 7), torch.float32)
    assert torch.allclose(output.exp().sum(dim=1), torch.ones(4))


@pytest.mark.parametrize("channels", [1, 3])
def test_predict_reads_batches_of_at_most_2_500_000_pixels(channels: int) -> None:
    """At 300 x 300 pixels, that is 27 images."""
    sizes = []

    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape))
            return images.mean(dim=(2, 3)).repeat(1, 2)

    data = random_dataset(30, side=300, channels=channels)
    normalize = Normalize(mean=[0.5] * channels, std=[0.25] * channels)
    classifier = Classifier(Mean(), normalize, test_time_augmentation=False)
    assert predict(classifier, data.images, CPU).shape == (30, 2 * channels)
    assert sizes == [(27, channels, 300, 300), (3, channels, 300, 300)]


def test_prediction_keeps_the_order_of_the_images_across_batches() -> None:
    images = random_dataset(EVALUATION_BATCH + 3).images
    classifier = Classifier(create_model("dash", 10, MNIST), NORMALIZE, test_time_augmentation=False)
    whole = predict(classifier, images, CPU)
    last = predict(classifier, images[EVALUATION_BATCH:], CPU)
    assert torch.allclose(whole[EVALUATION_BATCH:], last, atol=1e-5)


def test_prediction_does_not_change_the_network() -> None:
    net = create_model("tiny", 10, MNIST).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    predict(Classifier(net, NORMALIZE, test_time_augmentation=False), random_dataset(4).images, CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_loss_and_accuracy_are_means_over_images_not_batches() -> None:
    """507 images in batches of 500 and 7 have the metrics of one batch of 507."""
    data, net = random_dataset(EVALUATION_BATCH + 7), create_model("dash", 10, MNIST).eval()
    loss, accuracy = evaluate(Classifier(net, NORMALIZE, test_time_augmentation=False), data, CPU)
    with torch.no_grad():
        logits = net((torch.tensor(data.images)[:, None] / 255 - 0.1307) / 0.3081)
    labels = torch.tensor(data.labels).long()
    assert loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert accuracy == (logits.argmax(dim=1) == labels).sum().item() / 507


@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_probabilities_are_the_mean_over_five_copies(channels: int) -> None:
    """Torchvision's `affine` shifts an image in the same way."""
    net = create_model("resnet18", 10, (channels, 32, 32))
    normalize = Normalize(mean=[0.2] * channels, std=[0.3] * channels)
    images = random_dataset(4, side=32, channels=channels).images
    before = images.copy()
    planes = torch.from_numpy(images).view(4, 32, 32, channels).permute(0, 3, 1, 2)
    copies = [
        affine(planes, angle=0, translate=[x, y], scale=1, shear=[0])
        for x, y in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
    ]
    arrays = [copy.permute(0, 2, 3, 1).reshape(images.shape).numpy() for copy in copies]
    plain = Classifier(net, normalize, test_time_augmentation=False)
    expected = torch.stack([predict(plain, array, CPU).exp() for array in arrays]).mean(dim=0)
    found = predict(Classifier(net, normalize, test_time_augmentation=True), images, CPU).exp()
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found - predict(plain, images, CPU).exp()).abs().max() > 1e-4
    assert (images == before).all()


def test_correct_predictions_are_counted() -> None:
    outputs = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert get_correct_prediction_count(outputs, torch.tensor([0, 1, 1])) == 2
