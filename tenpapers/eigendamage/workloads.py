"""The networks of the chapter, their data and how they are trained; one joins with a line in ``WORKLOADS``.

Paper: arXiv 1905.05934. Chapter: ``book/eigendamage.ipynb``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from nnlib.eigendamage.finetune import train
from nnlib.eigendamage.measure import METHODS
from nnlib.models import MLP, VGG, PreResNet, ResNet, he_
from nnlib.training import Dataset, Split, fit
from tenpapers.data import load, remember


@dataclass(frozen=True)
class Workload:
    """A network, its data, and how it is trained and fine-tuned.

    Args:
        build: Network from ``seed``, ``dtype`` and ``device``.
        data: Loads the images.
        epochs: Of the first training.
        lr: Of the first training.
        finetune_epochs: After each pruning.
        finetune_lr: After each pruning.
        batch_size: Of both.
        weight_decay: Of both.
        pruned_with: Training images on which curvature is measured.
        adam: Train first by Adam from 3e-3, down to 2e-4 in four equal steps, in place of SGD.
    """

    build: Callable[..., nn.Module]
    data: Callable[[], Dataset]
    epochs: int
    lr: float
    finetune_epochs: int
    finetune_lr: float
    batch_size: int = 50
    weight_decay: float = 3e-4
    pruned_with: int = 1000
    adam: bool = False


def tiny_cnn(*, seed: int = 0, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> nn.Module:
    """Three 3 x 3 convolutions of 16, 32 and 32 channels, the second with stride 2, the mean, and a linear layer.

    For images of 8 x 8 pixels; 14,378 parameters. Convolutions have biases, and there is no normalisation.

    >>> sum(p.numel() for p in tiny_cnn().parameters())
    14378
    """
    where = {"dtype": dtype, "device": device}
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, **where),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, **where),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, **where),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10, **where),
    )
    return he_(model, seed)


def _digits() -> Dataset:
    """All digits that are not for training are for the test: nothing is chosen on the validation set."""
    data = load("digits")
    both = (torch.cat(pair) for pair in zip(data.validation, data.test, strict=True))
    return replace(data, test=Split(*both), source="digits of scikit-learn, all 1,797 images, split 1,400/397")


def _first(data: Dataset, n: int, what: str, shrink: int = 1) -> Dataset:
    """The first n training images, all test images, pixels averaged over squares."""
    parts = {"train": Split(data.train.x[:n], data.train.y[:n]), "test": data.test}
    parts = {name: Split(avg_pool2d(x, shrink), y) for name, (x, y) in parts.items()}
    small = f", pixels averaged over squares of {shrink}" if shrink > 1 else ""
    source = f"{what}, {n:,} training and {len(parts['test'].y):,} test images{small}"
    return replace(data, **parts, source=source)


WORKLOADS = {
    "CNN": Workload(tiny_cnn, _digits, 20, 0.05, 5, 0.01),
    "CNN by Adam": Workload(tiny_cnn, _digits, 20, 3e-3, 5, 0.01, adam=True),
    "MLP": Workload(partial(MLP, [64, 128, 128, 10]), _digits, 20, 0.05, 5, 0.01),
    "VGG": Workload(
        partial(VGG, 11, 1, width=1 / 8, affine=True),
        lambda: _first(load("mnist", vendored=True), 4000, "MNIST (the package's)"),
        *(6, 0.05, 2, 0.01),
    ),
    "ResNet": Workload(
        partial(ResNet, 8, 1, affine=True),
        lambda: _first(load("fashion_mnist", vendored=True), 4000, "Fashion-MNIST (the package's)", shrink=2),
        *(8, 0.05, 1, 0.01),
    ),
    "VGG, CIFAR-10": Workload(
        partial(VGG, 11, 3, width=1 / 4, affine=True),
        lambda: load("cifar10"),
        *(12, 0.05, 2, 0.01),
    ),
    "VGG19, CIFAR-10": Workload(
        partial(VGG, 19, 3, affine=True), lambda: load("cifar10"), 200, 0.1, 150, 1e-3, 128, 2e-4, 10_000
    ),
    "ResNet32, CIFAR-10": Workload(
        partial(ResNet, 32, 3, width=4, affine=True), lambda: load("cifar10"), 200, 0.1, 150, 1e-3, 64, 2e-4, 10_000
    ),
    "PreResNet29, CIFAR-10": Workload(
        partial(PreResNet, 29, 3), lambda: load("cifar10"), 200, 0.1, 150, 1e-3, 128, 2e-4, 10_000
    ),
}


@remember(maxsize=16)
def trained(
    workload: str, seed: int = 0, dtype: torch.dtype = torch.float64, device: str = "cpu", epochs: int | None = None
) -> tuple[nn.Module, Dataset]:
    """A trained network and its data; every caller gets the same two, and must not change them.

    Args:
        workload: One of ``WORKLOADS``.
        seed: Of initialisation and permutations.
        dtype: Of the parameters and images.
        device: Where to train.
        epochs: Of training, in place of the workload's own.
    """
    w = workload_of(workload)
    data = w.data().to(device, dtype)
    model = w.build(seed=seed, dtype=dtype, device=device)
    epochs = w.epochs if epochs is None else epochs
    if w.adam:
        optimizer = torch.optim.Adam(model.parameters(), weight_decay=w.weight_decay)
        for part, lr in enumerate((3e-3, 2e-3, 1e-3, 2e-4)):
            optimizer.param_groups[0]["lr"] = lr
            options = {"batch_size": w.batch_size, "splits": (), "seed": 4 * seed + part, "progress": False}
            fit(model, data, optimizer, epochs=-(-epochs // 4), **options)
    else:
        train(model, data, epochs=epochs, lr=w.lr, batch_size=w.batch_size, weight_decay=w.weight_decay, seed=seed)
    return model.eval(), data


def workload_of(name: str) -> Workload:
    """The workload of this name.

    Raises:
        ValueError: for a name that ``WORKLOADS`` has not.
    """
    if name not in WORKLOADS:
        raise ValueError(f"workload must be one of {', '.join(WORKLOADS)}: got {name!r}")
    return WORKLOADS[name]


def methods(workload: str) -> tuple[str, ...]:
    """The methods that can prune a workload's network: NN Slimming needs normalisations with a scale."""
    model = workload_of(workload).build(device="meta")
    scaled = any(isinstance(layer, nn.BatchNorm2d) and layer.affine for layer in model.modules())
    return tuple(method for method in METHODS if method != "NN Slimming" or scaled)
