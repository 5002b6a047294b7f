"""What is trained in this chapter, and for how long: four networks for images, one small network for regression sets.

Paper: arXiv 1811.12565, section 5. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn
from torch.nn.functional import pad

from nnlib.models import MLP, VGG, SmallCNN
from nnlib.training import Dataset, Split
from tenpapers.data import load

# Learning rates, chosen by the validation log likelihood of MLP and CNN with the seed 100, which is in no table;
# the VGG takes them over.
RATES = {
    "SGD": 0.1,
    "K-FAC": 0.1,
    "Bayes by backprop": 0.01,
    "Noisy Adam": 0.1,
    "Noisy K-FAC": 0.1,
    "Noisy EK-FAC": 0.1,
}
KRONECKER = ("Noisy K-FAC", "Noisy EK-FAC")  # the methods whose posterior has a basis
BASIS_EVERY = 10  # updates of the statistics between two eigendecompositions

# Regression sets and passes over each. The paper has 1,000 of them.
EPOCHS = {"diabetes": 40, "boston": 60, "concrete": 40, "energy": 60, "wine": 20, "yacht": 160}
EPOCHS |= {"kin8nm": 10, "power": 10, "naval": 10, "protein": 5}
LARGE = ("kin8nm", "power", "naval", "protein")  # in batches of 100, the others of 10
SMALL = ("boston", "concrete", "energy", "wine", "yacht")  # of the paper's sets


@dataclass(frozen=True)
class Workload:
    """A network, its images, and how long it is trained.

    Args:
        build: Network from ``seed``, ``dtype`` and ``device``.
        data: Loads the images.
        epochs: Of training; the learning rate is divided by ten at half and at three quarters of them.
        batch_size: Examples a step.
        statistics_every: Steps between two updates of the Fisher statistics.
    """

    build: Callable[..., nn.Module]
    data: Callable[[], Dataset]
    epochs: int
    batch_size: int = 50
    statistics_every: int = 5


def _few(n: int) -> Dataset:
    """The first n training digits: uncertainty matters where data are few."""
    data = load("digits")
    source = f"digits of scikit-learn, {n} training, 197 validation and 200 test images"
    return replace(data, train=Split(data.train.x[:n], data.train.y[:n]), source=source)


def _large(data: Dataset) -> Dataset:
    """28 x 28 images with a black frame, 32 x 32, as a VGG needs them."""
    names = ("train", "validation", "test")
    parts = {name: Split(pad(getattr(data, name).x, (2, 2, 2, 2)), getattr(data, name).y) for name in names}
    return replace(data, **parts, source=f"{data.source}, framed to 32 x 32 pixels")


WORKLOADS = {
    "MLP, digits": Workload(partial(MLP, [64, 50, 10]), partial(_few, 300), 60, statistics_every=2),
    "CNN, MNIST": Workload(partial(SmallCNN, width=8), lambda: load("mnist", vendored=True), 4),
    "VGG, Fashion-MNIST": Workload(
        partial(VGG, 11, 1, width=1 / 8), lambda: _large(load("fashion_mnist", vendored=True)), 6
    ),
    "VGG, CIFAR-10": Workload(partial(VGG, 11, 3, width=1 / 8), lambda: load("cifar10"), 10),
    # The paper's: half of VGG16's usual widths, 150 epochs.
    "VGG16, CIFAR-10": Workload(partial(VGG, 16, 3, width=1 / 2), lambda: load("cifar10"), 150, 128, 10),
}
