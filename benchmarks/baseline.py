"""The notebook's training, as a baseline for time: torchvision transforms image by image, two workers, float32."""

import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from src.data import dataset
from src.models.net import Net

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


@dataclass
class NotebookDataset(Dataset[tuple[Tensor, int]]):
    """Read an item as torchvision.datasets.MNIST does: convert the array to a PIL image and apply the transforms."""

    data: dataset.Dataset

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return TRANSFORM(Image.fromarray(self.data.images[index])), int(self.data.labels[index])


def seconds_per_epoch(train_set: dataset.Dataset) -> float:
    """Train `TIMED` batches of 512, and scale their time to one epoch."""
    data = NotebookDataset(train_set)
    sampler = RandomSampler(data, replacement=True, num_samples=(WARM_UP + TIMED) * BATCH_SIZE)
    net = Net(len(train_set.classes))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    start = 0.0
    for step, (pixels, labels) in enumerate(DataLoader(data, BATCH_SIZE, sampler=sampler, num_workers=2)):
        if step == WARM_UP:
            start = time.perf_counter()
        optimizer.zero_grad()
        F.nll_loss(net(pixels), labels).backward()
        optimizer.step()
    return (time.perf_counter() - start) / (TIMED * BATCH_SIZE) * len(train_set)
