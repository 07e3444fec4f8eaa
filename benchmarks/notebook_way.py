"""How long an epoch takes the notebook's way: an image at a time through torchvision, workers, float32."""

import time
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from src.data.dataset import Dataset as Images
from src.models.net import Net

BATCH = 512
WARM_UP = 3  # batches not measured: workers start, oneDNN chooses its kernels


class NotebookDataset(Dataset[tuple[Any, int]]):
    """What torchvision.datasets.MNIST does for an item: array to PIL image, then the transforms one by one."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomApply([transforms.CenterCrop(22)], p=0.1),
                transforms.Resize((28, 28)),
                transforms.RandomRotation((-15.0, 15.0), fill=0),
                transforms.ToTensor(),
                transforms.Normalize((0.1307,), (0.3081,)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images.images[index])), int(self.images.labels[index])


def seconds_per_epoch(images: Images, batches: int) -> float:
    """Train `batches` batches of 512 with two workers, and scale their time to one epoch of `images`."""
    data = NotebookDataset(images)
    order = RandomSampler(data, replacement=True, num_samples=(WARM_UP + batches) * BATCH)
    net = Net(len(images.classes))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    start = 0.0
    for step, (pixels, labels) in enumerate(DataLoader(data, batch_size=BATCH, sampler=order, num_workers=2)):
        if step == WARM_UP:
            start = time.perf_counter()
        optimizer.zero_grad()
        F.nll_loss(net(pixels), labels).backward()
        optimizer.step()
    return (time.perf_counter() - start) / (batches * BATCH) * len(images)
