"""The networks of the chapter, their data, their optimisers, and the loss that counts as reached.

A network joins with an entry in ``WORKLOADS``, an optimiser with one in ``OPTIMIZERS``, one in ``MOMENTA`` and one in
each workload's ``lr``. Paper: arXiv 1907.04164, section 4. Chapter: ``book/nqm.ipynb``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from nnlib.curvature import KFAC
from nnlib.models import MLP, SmallCNN
from nnlib.training import Dataset
from tenpapers.data import load, remember

Factory = Callable[[nn.Module, float, float], torch.optim.Optimizer]  # (model, lr, momentum)


def _sgd(model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def _adam(model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, betas=(momentum, 0.999))


def _kfac(model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    # Runs are a few dozen steps at large batches: statistics every tenth would hardly be used.
    return KFAC(model, lr, damping=0.03, momentum=momentum, update_factors_every=1, update_inverses_every=5)


OPTIMIZERS: dict[str, Factory] = {"SGD": _sgd, "Momentum": _sgd, "Adam": _adam, "K-FAC": _kfac}
MOMENTA = {"SGD": (0.0,), "Momentum": (0.8, 0.95), "Adam": (0.9,), "K-FAC": (0.0, 0.8)}  # what is tried; Adam: beta_1
DECAYS = (0.8, 0.95, 0.98, 0.995)  # of the averages that are followed beside the iterate


class Middle(NamedTuple):
    """The middle of a grid of learning rates, min(scale B^power, cap): a guess from trial runs, with a wide grid."""

    scale: float
    power: float
    cap: float

    def at(self, batch_size: int) -> float:
        """At batch size B."""
        return min(self.scale * batch_size**self.power, self.cap)


@dataclass(frozen=True)
class Workload:
    """A network, its data, and the loss that counts as reached.

    Args:
        data: Name for :func:`tenpapers.data.load`.
        model: ``model(seed=..., dtype=..., device=...)`` builds the network.
        split: Where the target is measured: ``train`` (all of it) or ``validation``.
        target: Mean cross-entropy to reach: loss <= target.
        batch_sizes: Those of the experiment.
        lr: For each optimiser the middle of its grid. For all but Adam it is the effective learning rate
            lr / (1 - momentum).
        floor_steps: A run may take ``floor_steps + examples / B`` steps, then it counts as not having reached.
        examples: See ``floor_steps``.
        options: For :func:`tenpapers.data.load`.
        dtype: Of parameters and data.
    """

    data: str
    model: Callable[..., nn.Module]
    split: str
    target: float
    batch_sizes: tuple[int, ...]
    lr: Mapping[str, Middle]
    floor_steps: int
    examples: int
    options: Mapping[str, bool] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def max_steps(self, batch_size: int) -> int:
        """The number of steps after which a run counts as not having reached the target."""
        return self.floor_steps + self.examples // batch_size

    def middle(self, optimizer: str, batch_size: int, momentum: float) -> float:
        """The middle of an optimiser's learning rates as torch has them."""
        effective = self.lr[optimizer].at(batch_size)
        return effective if optimizer == "Adam" else effective * (1 - momentum)


CNN_LR = {
    "SGD": Middle(0.004, 1, 0.5),
    "Momentum": Middle(0.004, 1, 2),
    "Adam": Middle(0.0003, 0.5, 0.01),
    "K-FAC": Middle(0.001, 0.75, 0.4),
}
WORKLOADS = {
    "digits": Workload(
        data="digits",
        model=partial(MLP, [64, 64, 64, 10]),
        split="train",
        target=0.05,
        batch_sizes=(8, 32, 128, 512, 1400),
        lr={
            "SGD": Middle(0.03, 1, 0.6),
            "Momentum": Middle(0.025, 1, 2.2),
            "Adam": Middle(0.0022, 0.6, 0.03),
            "K-FAC": Middle(0.0065, 0.75, 0.7),
        },
        floor_steps=200,
        examples=8_000,
        dtype=torch.float64,
    ),
    "mnist": Workload(
        data="mnist",
        model=partial(MLP, [784, 64, 10]),
        split="validation",
        target=0.25,
        batch_sizes=(32, 128, 512, 2048),
        lr={
            "SGD": Middle(0.011, 1, 0.7),
            "Momentum": Middle(0.013, 1, 3.5),
            "Adam": Middle(0.003, 0.28, 0.016),
            "K-FAC": Middle(0.0045, 0.75, 0.4),
        },
        floor_steps=200,
        examples=20_000,
        options={"vendored": True},
    ),
    # The paper's size: a small CNN on the full sets, from $NNLIB_DATA or fetched. Learning rates are guesses to widen.
    "mnist_cnn": Workload(
        data="mnist",
        model=SmallCNN,
        split="validation",
        target=0.04,
        batch_sizes=tuple(2**k for k in range(4, 15)),
        lr=CNN_LR,
        floor_steps=500,
        examples=1_200_000,
        options={"download": True},
    ),
    "fashion_mnist_cnn": Workload(
        data="fashion_mnist",
        model=SmallCNN,
        split="validation",
        target=0.25,
        batch_sizes=tuple(2**k for k in range(4, 15)),
        lr=CNN_LR,
        floor_steps=1000,
        examples=2_400_000,
        options={"download": True},
    ),
}


def workload_of(name: str) -> Workload:
    """The workload of this name.

    Raises:
        ValueError: for a name that ``WORKLOADS`` has not.
    """
    if name not in WORKLOADS:
        raise ValueError(f"workload must be one of {', '.join(WORKLOADS)}: got {name!r}")
    return WORKLOADS[name]


@remember(maxsize=4)
def data_of(name: str) -> Dataset:
    """The data of a workload, loaded once; every caller gets the same, and must not change them."""
    work = workload_of(name)
    return load(work.data, **work.options)
