"""The runs of the laptop profile: small networks, their hyperparameters, and the cells for a sweep.

Hyperparameters come from trial runs on Fashion-MNIST, by the validation accuracy of one seed (10) that no record uses:
without decay one of three learning rates, the best or one within 1 % of it; then, at that rate, the best of two to four
coefficients for each kind of decay. The other data sets take them over, but for SGD without BatchNorm, which does not
train on MNIST at that rate and has a third of it there.
Chapter: ``book/weight_decay.ipynb``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from nnlib.weight_decay.optimizers import DECAYS, FISHER, METHODS


class Choice(NamedTuple):
    """What was chosen for an optimiser: learning rate and the coefficient of each kind of decay."""

    lr: float
    decoupled: float
    l2: float


# By (method, BatchNorm).
CHOSEN = {
    ("SGD", False): Choice(0.03, 0.3, 0.03),
    ("SGD", True): Choice(1.0, 0.1, 0.003),
    ("Adam", False): Choice(0.002, 0.1, 0.001),
    ("Adam", True): Choice(0.01, 0.3, 0.1),
    ("K-FAC-G", False): Choice(0.03, 0.3, 0.01),
    ("K-FAC-G", True): Choice(0.01, 3.0, 0.01),
    ("K-FAC-F", False): Choice(0.003, 3.0, 0.01),
    ("K-FAC-F", True): Choice(0.01, 1.0, 0.01),
}
SIZES = {"examples": 1000, "epochs": 16, "batch_size": 50, "drops": (8, 12)}
KL_CLIP = 1e-3  # of K-FAC without BatchNorm
TRANSFER = {"data": "fashion_mnist", "lr": 0.1, "weight_decay": 0.03} | SIZES  # L2
# Long enough for K-FAC-F to become certain of every training image; at one learning rate.
CURVATURE = {"data": "digits", "method": "K-FAC-F", "lr": 0.003, "hidden": (64, 64), "epochs": 25, "batch_size": 50}
CURVATURE |= {"drops": ()}


def cells(
    data: str,
    seeds: Sequence[int],
    methods: Sequence[str] = METHODS,
    decays: Sequence[str] = DECAYS,
    batch_norms: Sequence[bool] = (False, True),
    where: str = "all",
) -> list[dict[str, Any]]:
    """Keywords for :func:`nnlib.weight_decay.measure`, one dict for each run.

    Args:
        data: Name of the data set.
        seeds: One run for each.
        methods: Of ``METHODS``.
        decays: Of ``DECAYS``.
        batch_norms: With and without BatchNorm.
        where: Which layers decay.

    >>> len(cells("mnist", [0, 1], ["SGD"])), cells("mnist", [0], ["SGD"], ["l2"], [True])[0]["weight_decay"]
    (12, 0.003)
    """
    found = []
    for batch_norm in batch_norms:
        for method in methods:
            choice = CHOSEN[method, batch_norm]
            lr = choice.lr / 3 if data != "fashion_mnist" and (method, batch_norm) == ("SGD", False) else choice.lr
            options = {"kl_clip": KL_CLIP} if method in FISHER and not batch_norm else {}
            for decay in decays:
                weight_decay = {"none": 0.0, "l2": choice.l2, "decoupled": choice.decoupled}[decay]
                kind = {"decay": decay, "weight_decay": weight_decay, "where": where}
                run = {"data": data, "batch_norm": batch_norm, "method": method, "lr": lr} | kind
                found += [run | SIZES | options | {"seed": seed} for seed in seeds]
    return found


def jacobian_cells(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """SGD and K-FAC-G on a ReLU network without biases on the digits, with more and more decoupled decay."""
    network = {"data": "digits", "hidden": (128, 128), "batch_norm": False, "bias": False}
    sizes = {"epochs": 60, "batch_size": 100, "drops": (30, 48)}
    return [
        {"method": method, "decay": "decoupled" if decay else "none", "weight_decay": decay, "seed": seed}
        | network
        | sizes
        | options
        for method, options in (("SGD", {"lr": 0.1}), ("K-FAC-G", {"lr": 0.03, "kl_clip": KL_CLIP}))
        for decay in (0.0, 0.01, 0.03, 0.1)
        for seed in seeds
    ]


def scatter_cells(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """SGD on ReLU networks without biases of four widths and three depths, without and with decay, on MNIST."""
    network = {"data": "mnist", "method": "SGD", "lr": 0.03, "batch_norm": False, "bias": False}
    return [
        {"hidden": (width,) * depth, "decay": decay, "weight_decay": weight_decay, "seed": seed} | network | SIZES
        for decay, weight_decay in (("none", 0.0), ("decoupled", 0.1))
        for width in (16, 32, 64, 128)
        for depth in (1, 2, 3)
        for seed in seeds
    ]
