"""The tables of the chapter: which networks are trained by which optimiser, with which decay, and what is measured.

Chapter: ``book/weight_decay.ipynb``.
"""

from collections.abc import Sequence
from typing import Any

from nnlib.weight_decay.optimizers import DECAYS, METHODS
from tenpapers.runs import Table
from tenpapers.weight_decay.follow import follow_curvature, norm_transfer
from tenpapers.weight_decay.measure import MEASURED, correlate, measure
from tenpapers.weight_decay.untrained import one_draw
from tenpapers.weight_decay.workloads import KL_CLIP, PAPER, SIZES, settings

Cells = list[dict[str, Any]]


def _cnn(data: str, methods: Sequence[str], decays: Sequence[str], where: str, batch_norms=(False, True)) -> Cells:
    """Two seeds of the small CNN."""
    return [
        {"data": data, "batch_norm": batch_norm, "method": method, "where": where, "seed": seed}
        | settings(data, method, batch_norm, decay)
        for batch_norm in batch_norms
        for method in methods
        for decay in decays
        for seed in (0, 1)
    ]


def _networks() -> Cells:
    """All optimisers and decays on Fashion-MNIST, which layers decay there, and two optimisers on two other sets."""
    cells = _cnn("fashion_mnist", METHODS, DECAYS, "all")
    for where in ("hidden", "last"):
        cells += _cnn("fashion_mnist", METHODS, ["decoupled"], where, [True])
    for data in ("mnist", "cifar10"):
        cells += _cnn(data, ["SGD", "K-FAC-G"], ["none", "decoupled"], "all")
    return cells


def _paper() -> Cells:
    """The paper's main table: each recipe with its decay and without, three seeds."""
    return [recipe.settings(decays) | {"seed": s} for recipe in PAPER for decays in (False, True) for s in range(3)]


def _jacobian() -> Cells:
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
        for seed in range(3)
    ]


def _scatter() -> Cells:
    """SGD on ReLU networks without biases of four widths and three depths, without and with decay, on MNIST."""
    network = {"data": "mnist", "method": "SGD", "lr": 0.03, "batch_norm": False, "bias": False, "seed": 0}
    return [
        {"hidden": (width,) * depth, "decay": decay, "weight_decay": weight_decay} | network | SIZES
        for decay, weight_decay in (("none", 0.0), ("decoupled", 0.1))
        for width in (16, 32, 64, 128)
        for depth in (1, 2, 3)
    ]


# Long enough for K-FAC-F to become certain of every training image; at one learning rate.
CURVATURE: dict[str, Any] = {"data": "digits", "method": "K-FAC-F", "lr": 0.003, "hidden": (64, 64), "batch_size": 50}
TRANSFER: dict[str, Any] = {"data": "fashion_mnist", "lr": 0.1, "weight_decay": 0.03} | SIZES  # L2
BRIEF: dict[str, Any] = {"examples": 200, "epochs": 3, "drops": (2,), "seed": 7}  # of a probe


def _curvature() -> Cells:
    return [
        CURVATURE | {"epochs": 25, "drops": (), "decay": decay, "weight_decay": weight_decay, "seed": seed}
        for decay, weight_decay in (("none", 0.0), ("decoupled", 1.0))
        for seed in (0, 1)
    ]


transfer = Table(
    "weight_decay",
    "transfer",
    norm_transfer,
    {"laptop": lambda: [TRANSFER | {"seed": seed} for seed in range(3)]},
    columns=("seed", "run", "epoch", "learning_rate", "loss", "norm", "test_accuracy"),
    probe=TRANSFER | BRIEF | {"examples": 100, "batch_size": 20},
)
jacobian = Table(
    "weight_decay",
    "jacobian",
    measure,
    {"laptop": _jacobian},
    columns=(
        *("method", "decay", "weight_decay", "seed", "train_loss", "test_loss", "test_accuracy"),
        *("norm", "jacobian", "kfac_norm"),
    ),
    probe=_jacobian()[-1] | {"hidden": (32, 32), "batch_size": 50} | BRIEF,
)
scatter = Table(
    "weight_decay",
    "scatter",
    measure,
    {"laptop": _scatter},
    columns=(
        *("hidden", "decay", "weight_decay", "train_loss", "test_loss", "test_accuracy", "train_accuracy"),
        *("norm", "jacobian", "kfac_norm"),
    ),
    probe=_scatter()[-1] | {"hidden": (32, 32)} | BRIEF,
)
correlations = Table(
    "weight_decay",
    "correlations",
    correlate,
    {"laptop": lambda: [{"seed": seed} for seed in range(3)]},
    columns=("seed", "networks", "with_kfac_norm", "with_gap"),
    probe={"widths": (8, 16), "depths": (1, 2)} | BRIEF,
)
curvature = Table(
    "weight_decay",
    "curvature",
    follow_curvature,
    {"laptop": _curvature},
    columns=("decay", "seed", "epoch", "loss", "norm", "fisher", "gauss_newton", "effective_damping"),
    probe=CURVATURE | {"decay": "decoupled", "weight_decay": 1.0} | BRIEF,
)
networks = Table(
    "weight_decay",
    "networks",
    measure,
    {"laptop": _networks, "paper": _paper},
    columns=("data", "batch_norm", "method", "decay", "where", "weight_decay", "lr", "seed", "diverged", *MEASURED),
    probe=_cnn("fashion_mnist", ["K-FAC-F"], ["decoupled"], "last", [True])[0] | {"norms_on": 50} | BRIEF,
    hours=0.8,
)
drawn = Table(
    "weight_decay",
    "drawn",
    one_draw,
    {"laptop": lambda: [{"seed": seed} for seed in range(20)]},
    columns=("seed", "rest", "relu", "degrees_short", "degrees", "degrees_long"),
    probe={"seed": 7, "steps": 300},
)
