"""The state of training: what the steps change, and what a checkpoint keeps."""

import math
from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from src.data.dataset import Dataset
from src.device import DeviceSetup
from src.models.inference import Classifier
from src.params.augmentation import AugmentationParams
from src.params.train import TrainParams
from src.preprocessing import IMAGENET, measure_border, measure_normalization
from src.training.distributed import all_reduce, is_main_process, world_size
from src.training.optim import build_optimizers, lr_factor

# epoch (epochs done, as 0.34), learning_rate, train_loss, train_accuracy, and validation_<name> from `evaluate`
Metrics = dict[str, float]


class LabelMargins:
    """How far the output of each training label was above the largest other output, on average over training.

    A wrong label contradicts similar images, so its margin stays low. Source: Pleiss et al., Identifying Mislabeled
    Data using the Area Under the Margin Ranking, 2020.

    Attributes:
        sums: sum of the margins of each image, and number of its steps, float64 [2, n] (float32 on mps).
        rivals: class with the largest other output in the last step of each image, int64 [n]. The number of the step is
            added as step * num_classes, so that the maximum over several processes is the last one.
    """

    def __init__(self, num_images: int, num_classes: int, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.num_classes = num_classes
        self.sums = torch.zeros(2, num_images, dtype=dtype, device=device)
        self.rivals = torch.zeros(num_images, dtype=torch.int64, device=device)

    def add(self, indices: Tensor, output: Tensor, labels: Tensor, step: int) -> None:
        """Record the margins of a batch.

        Args:
            indices: int64 [batch], the numbers of the images in the training set.
            output: logits or log-probabilities, float32 [batch, classes].
            labels: class indices, int64 [batch].
        """
        labels = labels[:, None]
        largest, rivals = output.scatter(1, labels, -torch.inf).max(dim=1)
        margins = output.gather(1, labels)[:, 0] - largest
        self.sums[:, indices] += torch.stack([margins, torch.ones_like(margins)]).to(self.sums.dtype)
        self.rivals[indices] = step * self.num_classes + rivals

    def mean(self) -> tuple[Tensor, Tensor]:
        """Return the mean margin of each image (NaN without a step) and its last rival, int64: [n] each, on the CPU.

        All processes have to call it.
        """
        sums, steps = all_reduce(self.sums).cpu()
        return sums / steps, all_reduce(self.rivals, dist.ReduceOp.MAX).cpu() % self.num_classes


class TrainState:
    """The state of training, without the images.

    Args:
        net: the network, which is moved to the device.
        pretrained: normalize color images as torchvision's weights expect, not by the training images.

    Attributes:
        classifier: the network with its normalization and test-time augmentation.
        parallel_net: the module that training calls: the network, or DistributedDataParallel around it, which averages
            the gradients over all processes.
        optimizers: together they hold each trainable parameter once.
        border: color of the border of the images, from 0 to 1 per channel.
        steps_per_epoch: optimizer steps of a full epoch.
        total_steps: optimizer steps of the run. The last epoch may be partial.
        class_weights: weight of each class in the loss, float32 [classes].
        running_metrics: loss, correct predictions and images since the last evaluation, float64 [3] (float32 on mps).
        margins: how clearly the network preferred each training label so far.
    """

    def __init__(
        self,
        net: nn.Module,
        train_set: Dataset,
        settings: TrainParams,
        augmentation: AugmentationParams,
        setup: DeviceSetup,
        pretrained: bool,
    ) -> None:
        self.settings, self.augmentation, self.setup, self.step = settings, augmentation, setup, 0
        is_imagenet = pretrained and train_set.image_shape[0] == 3
        normalization = IMAGENET if is_imagenet else measure_normalization(train_set.images)
        # channels_last is 20 % faster for these convolutions on CPU
        net.to(setup.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classifier = Classifier(net, normalization, settings.test_time_augmentation)
        self.parallel_net = DistributedDataParallel(net) if world_size() > 1 else net
        self.optimizers = build_optimizers(net, settings, setup.precision)
        self.border = measure_border(train_set.images)
        self.steps_per_epoch = math.ceil(len(train_set) / settings.batch_size)
        # 1.1 epochs of 430 steps are 473 steps; in floats they would be 474
        self.total_steps = math.ceil(self.steps_per_epoch * Decimal(str(settings.epochs)))
        self.class_weights = class_weights(train_set.counts(), settings.class_weight).to(setup.device)
        dtype = torch.float32 if setup.device.type == "mps" else torch.float64
        self.running_metrics = torch.zeros(3, dtype=dtype, device=setup.device)
        self.margins = LabelMargins(len(train_set), len(train_set.classes), setup.device)

    def lr_factor(self, step: int) -> float:
        """Return the factor (0 to 1) of `train.learning_rate` at a step."""
        return lr_factor(step, self.total_steps, self.steps_per_epoch, self.settings)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors that training changes, by key. All processes have to call it.

        Keys are `net/<name>` for weights and running statistics, `<optimizer>/<parameter>/<name>` for optimizer states,
        for example `0/3/momentum`, and the names of the accumulators.
        """
        tensors = {f"net/{name}": tensor for name, tensor in self.classifier.net.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                tensors |= {f"{number}/{index}/{name}": value for name, value in values.items() if value is not None}
        return tensors | {name: all_reduce(*values) for name, values in self._accumulators().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what `tensors` returned into this state.

        `Optimizer.load_state_dict` would keep the contiguous layout that tensors have in a file. Training uses
        channels_last, and a different layout may change the last bits.
        """
        accumulators, net_state = self._accumulators(), self.classifier.net.state_dict()
        for key, tensor in tensors.items():
            prefix, _, rest = key.partition("/")
            if key in accumulators:
                if is_main_process():  # rank 0 holds those of all processes; the others start at 0
                    accumulators[key][0].copy_(tensor)
            elif prefix == "net":
                net_state[rest].copy_(tensor)
            else:
                optimizer, (index, name) = self.optimizers[int(prefix)], rest.split("/")
                weight = [weight for group in optimizer.param_groups for weight in group["params"]][int(index)]
                # buffers like the momentum get the layout of their weight; AdamW's step counter has a different shape
                like = weight if tensor.shape == weight.shape else tensor
                # fused AdamW reads the step counter on the device of the weight
                optimizer.state[weight][name] = torch.empty_like(like, device=weight.device).copy_(tensor)

    def _accumulators(self) -> dict[str, tuple[Tensor, dist.ReduceOp.RedOpType]]:
        """Return what each process accumulates for its own images, and how to reduce it over all processes."""
        return {
            "running_metrics": (self.running_metrics, dist.ReduceOp.SUM),
            "margins": (self.margins.sums, dist.ReduceOp.SUM),
            "rivals": (self.margins.rivals, dist.ReduceOp.MAX),
        }


def class_weights(counts: np.ndarray, exponent: float) -> Tensor:
    """Return the weight of each class in the loss, float32 [classes]. The mean over all training images is 1.

    Args:
        exponent: of the inverse frequency of a class: 0 weighs all images alike, 1 all classes.
    """
    inverse = np.maximum(counts, 1.0) ** -exponent
    return torch.from_numpy(inverse * counts.sum() / (counts @ inverse)).float()
