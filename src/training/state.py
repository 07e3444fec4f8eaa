"""The training state."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from src.data.dataset import Dataset
from src.device import Compute
from src.models.build import find_head
from src.models.inference import Classifier
from src.params import Normalize, Train
from src.training.distributed import wrap_ddp
from src.training.optimizers import build_optimizers
from src.training.schedules import StepCount, build_schedulers
from src.transforms import measure_normalization

# epoch (epochs done, as 0.34), learning_rate, train_loss, train_accuracy, validation_loss, validation_accuracy
HistoryRow = dict[str, float]


@dataclass
class TrainState:
    """Everything that the next step depends on, besides the data.

    Attributes:
        net: the network.
        model: the module that training calls: `net`, or DistributedDataParallel around it.
        optimizers: together they hold each trainable parameter once.
        schedulers: one per optimizer.
        settings: the section `train` of params.yaml.
        normalize: mean and standard deviation of the pixels, given or measured.
        compute: device and precision.
        steps: steps per epoch and in total, and rows of the history.
        sums: loss, correct predictions and images since the last row of the history, float64 [3], or float32 on mps.
        step: steps done.
        is_frozen: whether only the head is trainable.
        seconds: time spent on these steps.
    """

    net: nn.Module
    model: nn.Module
    optimizers: list[Optimizer]
    schedulers: list[LambdaLR]
    settings: Train
    normalize: Normalize
    compute: Compute
    steps: StepCount
    sums: Tensor
    step: int = 0
    is_frozen: bool = False
    seconds: float = 0.0

    @property
    def classifier(self) -> Classifier:
        """The network with its normalization and test-time augmentation, as `load_model` returns it."""
        return Classifier(self.net, self.normalize, self.settings.test_time_augmentation)

    @property
    def epochs(self) -> int:
        """The number of epochs. The last one may be partial."""
        return math.ceil(self.settings.epochs)

    def set_trainable(self, epoch: int) -> None:
        """Make only the head trainable before epoch `train.freeze_epochs`, and from then on all parameters."""
        is_frozen = epoch < self.settings.freeze_epochs
        if is_frozen != self.is_frozen:
            self.is_frozen = is_frozen
            head = set(self.net.get_submodule(find_head(self.net)).parameters())
            for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                for parameter in group["params"]:
                    parameter.requires_grad_(not is_frozen or parameter in head)
            self.model = wrap_ddp(self.net)  # DistributedDataParallel expects a fixed set of trainable parameters

    def set_step(self, step: int) -> None:
        """Set the number of steps done, and the learning rate of the next one."""
        self.step = step
        self.schedulers = build_schedulers(self.optimizers, self.settings, self.steps, step)


def create_train_state(net: nn.Module, train_set: Dataset, settings: Train, compute: Compute) -> TrainState:
    """Prepare `net` for training: move it to the device, create optimizers and schedulers.

    Args:
        net: the network, changed in place.
        train_set: the training images.
        settings: the section `train` of params.yaml.
        compute: device and precision.
    """
    # channels_last is 20 % faster for these convolutions on CPU
    net.to(compute.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = build_optimizers(net, settings, compute)
    steps = StepCount.of(len(train_set), settings)
    schedulers = build_schedulers(optimizers, settings, steps)
    sums = torch.zeros(3, dtype=torch.float32 if compute.device.type == "mps" else torch.float64, device=compute.device)
    normalize = settings.normalize or measure_normalization(train_set.images)
    return TrainState(net, wrap_ddp(net), optimizers, schedulers, settings, normalize, compute, steps, sums)
