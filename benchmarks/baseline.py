"""The notebook's training, as a baseline for time: torchvision transforms image by image, two workers, float32."""

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms

from src.models.networks.net import Net

BATCH_SIZE = 512
WARM_UP, TIMED = 3, 60  # batches; in the first ones, workers start and oneDNN chooses its kernels
TRANSFORM = transforms.Compose(
    [
        transforms.RandomApply([transforms.CenterCrop(22)], p=0.1),
        transforms.Resize((28, 28)),
        transforms.RandomRotation((-15.0, 15.0), fill=0),
        transforms.ToTensor(),
        transforms.Normalize((0.1307,), (0.3081,)),
    ]
)


class MNIST(datasets.MNIST):  # type: ignore[misc]  # torchvision has no types
    """The notebook's data set, read from the folder of the stage `prepare`."""

    raw_folder = "data/raw/mnist"


def measure_baseline() -> dict[str, Any]:
    """Time `TIMED` batches of 512, and return the name "baseline", the seconds of an epoch and images per second."""
    data = MNIST("data", transform=TRANSFORM, download=True)
    sampler = RandomSampler(data, replacement=True, num_samples=(WARM_UP + TIMED) * BATCH_SIZE)
    net = Net(len(data.classes), (1, 28, 28))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    start = 0.0
    for step, (pixels, labels) in enumerate(DataLoader(data, BATCH_SIZE, sampler=sampler, num_workers=2)):
        if step == WARM_UP:
            start = time.perf_counter()
        optimizer.zero_grad()
        F.nll_loss(net(pixels), labels).backward()
        optimizer.step()
    images_per_s = TIMED * BATCH_SIZE / (time.perf_counter() - start)
    return {"name": "baseline", "seconds": len(data) / images_per_s, "images_per_s": images_per_s}
