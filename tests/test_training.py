"""The training loop, its optimisers and its schedule."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data.dataset import Dataset
from src.device import get_device
from src.models.inference import EVALUATION_BATCH, get_correct_prediction_count, predict
from src.models.inference import test as evaluate
from src.models.net import Net
from src.params import Params, Train
from src.training.loop import EpochRecord, State, fit, hardest_images, start, train_batch, training_batches
from src.training.optimizers import build_optimizers, orthogonalize, rate_factor

CPU = torch.device("cpu")


def dataset(count: int) -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28), np.uint8)
    return Dataset(images, (np.arange(count) % 10).astype(np.uint8), tuple("0123456789"))


def settings(params: Params, **changes: object) -> Train:
    return params.train.model_copy(update={"batch_size": 32, "epochs": 1, **changes})


def history(params: Params, count: int = 75, **changes: object) -> list[EpochRecord]:
    torch.manual_seed(0)
    return run_fit(Net(10), settings(params, **changes), count)


def run_fit(net: nn.Module, chosen: Train, count: int = 75) -> list[EpochRecord]:
    state = start(net, chosen, CPU, torch.float32)
    return [record for record in fit(state, dataset(count), chosen, CPU, torch.float32) if record]


def test_every_image_once_an_epoch(params: Params) -> None:
    """75 images in batches of 32 are 32, 32 and 11; each label comes as often as it is there."""
    data = dataset(75)
    images, labels = torch.tensor(data.images), torch.tensor(data.labels).long()
    batches = list(training_batches(images, labels, settings(params, low_resolution=0.0), first=0))
    assert [len(part) for _, part in batches] == [32, 32, 11]
    assert torch.equal(torch.cat([part for _, part in batches]).bincount(), labels.bincount())


def test_low_resolution_comes_first(params: Params) -> None:
    """With half of two epochs: the first at 20 pixels, the second at 28."""
    images, labels = torch.zeros(64, 28, 28, dtype=torch.uint8), torch.zeros(64, dtype=torch.long)
    chosen = settings(params, epochs=2, low_resolution=0.5)
    sizes = [{part.shape[-1] for part, _ in training_batches(images, labels, chosen, first)} for first in (0, 2)]
    assert sizes == [{20}, {28}]


def test_uneven_last_batch_weighs_what_it_holds(params: Params) -> None:
    """The mean loss and accuracy of 507 images equal those of one batch of all of them."""
    data, net = dataset(EVALUATION_BATCH + 7), Net(10)
    loss, accuracy = evaluate(net, data, params.train.normalize, CPU)
    pixels = (torch.tensor(data.images)[:, None] / 255 - 0.1307) / 0.3081
    with torch.no_grad():
        logits = net(pixels)
    labels = torch.tensor(data.labels).long()
    assert loss == pytest.approx(F.nll_loss(logits, labels).item(), rel=1e-5)
    assert accuracy == get_correct_prediction_count(logits, labels) / len(labels)


def test_training_figures_weigh_images_not_batches(params: Params) -> None:
    """At a learning rate near 0, training and evaluation measure the same 75 images alike, in batches of 32, 32, 11."""
    none = params.train.augmentation.model_copy(update=dict.fromkeys(("rotation", "scale", "shear", "shift"), 0.0))
    chosen = settings(params, learning_rate=1e-12, low_resolution=0.0, augmentation=none, batch_norm=False, hardest=1.0)
    net, data = Net(10), dataset(75)
    (record,) = run_fit(net, chosen)
    loss, accuracy = evaluate(net, data, params.train.normalize, CPU)
    assert record.train_loss == pytest.approx(loss, rel=1e-4)
    assert record.train_accuracy == accuracy


def test_an_epoch_may_be_a_part(params: Params) -> None:
    """One and a half epochs of 128 images in batches of 32: four batches, then two, and the rate falls over all six."""
    images, labels = torch.zeros(128, 28, 28, dtype=torch.uint8), torch.zeros(128, dtype=torch.long)
    chosen = settings(params, epochs=1.5, low_resolution=0.5)
    sizes = [[part.shape[-1] for part, _ in training_batches(images, labels, chosen, first)] for first in (0, 4)]
    assert sizes == [[20, 20, 20, 28], [28, 28]]
    linear = settings(params, epochs=1.5, schedule="linear", warmup=0.0)
    assert [rate_factor(step, 4, linear) for step in range(6)] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert [record.epoch for record in history(params, 128, epochs=1.5)] == [1, 2]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_each_optimizer_learns_the_same_way_twice(params: Params, optimizer: str) -> None:
    """Two runs agree to the last bit, and the loss falls."""
    rate = {"sgd": 0.01, "adamw": 0.001, "muon": 0.01}[optimizer]
    changes = {"optimizer": optimizer, "learning_rate": rate, "epochs": 5, "low_resolution": 0.0}
    first, second = history(params, **changes), history(params, **changes)
    assert first == second
    assert first[-1].train_loss < first[0].train_loss


def test_label_smoothing_is_torchs(params: Params) -> None:
    """One step follows the gradient of `cross_entropy` with the same smoothing; the loss reported is the plain one."""
    images, labels = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    net, other = Net(10), Net(10)
    other.load_state_dict(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    state = State(net, [optimizer])
    train_batch(state, images, labels, 1.0, torch.float32, 0.2)
    assert state.loss_sum / 16 == pytest.approx(F.nll_loss(other(images), labels).item(), rel=1e-5)
    F.cross_entropy(other(images), labels, label_smoothing=0.2).backward()
    for weight, expected in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.allclose(weight, expected - 0.1 * expected.grad, atol=1e-5)
    assert history(params, label_smoothing=0.2) != history(params)


def test_the_hardest_images_are_those_of_largest_loss() -> None:
    """A third of 15 images: the five worst, in their order; one image alone stays."""
    net, images, labels = Net(10), torch.randn(15, 1, 28, 28), torch.arange(15) % 10
    losses = F.nll_loss(net(images), labels, reduction="none")
    worst = sorted(range(15), key=lambda i: -losses[i])[:5]
    seen, names = hardest_images(net, images, labels, 1 / 3)
    assert torch.equal(seen, images[sorted(worst)])
    assert torch.equal(names, labels[sorted(worst)])
    assert len(hardest_images(net, images[:1], labels[:1], 0.1)[0]) == 1


def test_all_images_count_at_the_start_and_at_the_end(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 steps, the first 30 % and the last one learn from all 16 images, those between from 4."""
    counts = []
    plain = F.nll_loss
    monkeypatch.setattr(F, "nll_loss", lambda *args, **rest: counts.append(len(args[1])) or plain(*args, **rest))
    history(params, 160, batch_size=16, epochs=4, hardest=0.25)
    learned = [
        count for count, after in zip(counts, [*counts[1:], 16], strict=True) if not (count == 16 and after == 4)
    ]
    assert learned == [16] * 13 + [4] * 26 + [16]


def test_another_seed_another_order(params: Params) -> None:
    """The seed and the epoch both change the batches."""
    images, labels = torch.zeros(64, 28, 28, dtype=torch.uint8), torch.arange(64)
    orders = [
        torch.cat(
            [part for _, part in training_batches(images, labels, settings(params, seed=seed, epochs=2), first)]
        ).tolist()
        for seed, first in ((0, 0), (0, 2), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_each_parameter_has_one_optimizer(params: Params) -> None:
    """Muon and AdamW together hold every weight exactly once, Muon none of one axis."""
    net = Net(10)
    muon, adamw = build_optimizers(net, settings(params, optimizer="muon"), torch.float32)
    held = [weight for optimizer in (muon, adamw) for group in optimizer.param_groups for weight in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, net.parameters()))
    assert all(weight.ndim > 1 for group in muon.param_groups for weight in group["params"])


def singular_values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(orthogonalize(matrix, steps=5))


@pytest.mark.parametrize("shape", [(64, 288), (288, 64), (50, 50)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    """Muon's own claim: between about 0.7 and 1.2, for wide, tall and square matrices."""
    values = singular_values(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_orthogonalize_is_newton_schulz() -> None:
    """Steps on the small square alone equal the steps on the whole matrix; bfloat16 differs by a few hundredths."""
    matrix = torch.randn(64, 288, generator=torch.Generator().manual_seed(0))
    expected = matrix / matrix.norm()
    for _ in range(3):
        square = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * square + 2.0315 * square @ square) @ expected
    assert torch.allclose(orthogonalize(matrix), expected, atol=1e-5)
    assert torch.allclose(orthogonalize(matrix.T), expected.T, atol=1e-5)
    rough = orthogonalize(matrix, torch.bfloat16)
    assert (rough - expected).norm() < 0.05 * expected.norm()


def test_schedules_by_hand(params: Params) -> None:
    """Linear: up over the first tenth, then down to 0. Step: a tenth after every 15 epochs. Constant: whole."""
    linear = settings(params, schedule="linear", warmup=0.1, epochs=2)
    factors = [rate_factor(step, 50, linear) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert factors[10] == pytest.approx(1.0)
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(1 / 90)
    step = settings(params, schedule="step", warmup=0.0, step_epochs=15, step_factor=0.1, epochs=20)
    assert [rate_factor(epoch * 7, 7, step) for epoch in (0, 14, 15, 19)] == pytest.approx([1, 1, 0.1, 0.1])
    constant = settings(params, schedule="constant", warmup=0.0)
    assert {rate_factor(step_, 9, constant) for step_ in range(9)} == {1.0}


def test_prediction_keeps_the_order_of_images(params: Params) -> None:
    """Row i of the log-probabilities belongs to image i, over the border between batches."""
    data, net = dataset(EVALUATION_BATCH + 3), Net(10)
    whole = predict(net, data, params.train.normalize, CPU)
    last = predict(net, data[np.arange(EVALUATION_BATCH, len(data))], params.train.normalize, CPU)
    assert torch.allclose(whole[EVALUATION_BATCH:], last, atol=1e-5)


def test_auto_is_the_best_device_present() -> None:
    """CUDA where present, else MPS, else CPU."""
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert get_device("auto").type == best
    assert isinstance(nn.Linear(1, 1).to(get_device()), nn.Module)
