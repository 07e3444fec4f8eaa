"""Train resnet18 as torchvision's reference does: transforms image by image, a DataLoader with two workers, float32.

python -m benchmarks.reference params.yaml      uses the folders train/ and test/, and settings of params.yaml
"""

import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import models
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from src.params import load_params


def main() -> None:
    params = load_params(Path(sys.argv[1]))
    settings, size, epochs = params.train, params.prepare.image_size, int(params.train.epochs)
    torch.manual_seed(settings.seed)
    resize = [v2.PILToTensor(), v2.Resize((size, size))]
    normalize = [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
    flip = v2.RandomHorizontalFlip(settings.augmentation.flip)
    train_set = ImageFolder("train", v2.Compose([*resize, flip, *normalize]))
    test_set = ImageFolder("test", v2.Compose([*resize, *normalize]))
    batches = DataLoader(train_set, settings.batch_size, shuffle=True, num_workers=2)
    net = models.get_model(params.model.name, num_classes=len(train_set.classes))
    rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
    optimizer = torch.optim.SGD(net.parameters(), rate, momentum, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, epochs * len(batches))
    start = time.perf_counter()
    for epoch in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()
            schedule.step()
        print(f"\nepoch {epoch + 1}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{epochs * len(batches)} steps of {settings.batch_size} images in {seconds:.1f} s")
    net.eval()
    with torch.inference_mode():
        hits = sum(int((net(x).argmax(1) == y).sum()) for x, y in DataLoader(test_set, 64, num_workers=2))
    print(f"test accuracy {hits / len(test_set):.4f} ")


if __name__ == "__main__":
    main()
