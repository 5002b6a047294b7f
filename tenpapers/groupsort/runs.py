"""The tables of the chapter: critics beside the distance that they should see, classifiers, and what they certify.

Chapter: ``book/groupsort.ipynb``.
"""

from itertools import product

from tenpapers.groupsort.measure import (
    ROBUST,
    absolute_value_run,
    classify_run,
    cone_run,
    gan_run,
    lwgan_run,
    robust_run,
    spectrum_run,
    undead_run,
)
from tenpapers.groupsort.workloads import UNCONSTRAINED
from tenpapers.runs import Table

SORTING = ("MaxMin", "GroupSort4", "FullSort")
PAIR = ("ReLU", "MaxMin")
CRITIC = {"width": 256, "hidden": 6, "steps": 150 * 128}  # the paper's
CONSTANTS = {"Björck": 10.0, "spectral norm": 10.0, "Parseval": 10.0, "rows": 1000.0}
MNIST = {"dataset": "mnist", "epochs": 6, "lr": 3e-3, "seed": 0}
MNIST_FULL = {
    **{"dataset": "mnist full", "epochs": 200, "lr": 1e-3, "seed": 0},
    **{"hidden": [1024] * 3, "batch_size": 128, "device": "auto"},
}
AUTO = {"device": "auto"}
MEASURED = ("clean", "train", "proven", "residual", "radius")


def _absolute(more):
    kinds = [("ReLU", h) for h in range(1, 7)] + [(name, 1) for name in ("MaxMin", "Abs", "FullSort")]
    return [
        {"activation": a, "hidden": h, "steps": 300 + 100 * h, "lr": 0.02, "seed": s} | more
        for (a, h), s in product(kinds, (0, 1))
    ]


def _cones(more):
    return [
        {"dim": d, "activation": a, "width": max(64, d), "steps": 300, "seed": s} | more
        for d, a, s in product((2, 16, 64, 128), ("ReLU", *SORTING), (0, 1))
    ]


def _three_cones(more):
    shared = {"dim": 2, "centres": [-2.0, 0.0, 2.0], "steps": 800, "batch_size": 128, "seed": 0}
    return [shared | {"activation": a} | more for a in ("ReLU", *SORTING, "Abs")]


def _gan_distance(more):
    shared = {"dataset": "digits", "gan_steps": 60, "hidden": [128, 128], "steps": 400, "n_test": 300, "seed": 0}
    return [shared | {"activation": a} | more for a in ("ReLU", "MaxMin", "GroupSort4")]


def _lwgan(more):
    return [
        {"dataset": "digits", "critic": c, "gan_steps": 20, "seed": s} | more
        for c, s in product(("clipped", "Lipschitz"), range(3))
    ]


def _digits(more):
    at = {"dataset": "digits", "radii": [0.25, 0.5], "attacks": [0.5]} | more
    kinds = [("Björck", a, e) for a, e in product(("ReLU", "MaxMin", "GroupSort4"), (0.25, 0.5, 1.0))]
    kinds += [(c, a, 0.5) for a, c in product(PAIR, ("spectral norm", "Parseval"))]
    return [at | {"activation": a, "constraint": c, "epsilon": e, "seed": s} for (c, a, e), s in product(kinds, (0, 1))]


def _digits_inf(more):
    at = {"dataset": "digits", "radii": [0.02, 0.05, 0.1], "attacks": [0.05], "epsilon": 0.1, "epochs": 30} | more
    kinds = product(PAIR, ("rows", "rows after step"), (0, 1))
    return [at | {"activation": a, "constraint": c, "seed": s} for a, c, s in kinds]


def _mnist(at):
    kinds = [*product(PAIR, (*UNCONSTRAINED, *CONSTANTS)), ("GroupSort4", "none"), ("GroupSort4", "Björck")]
    return [
        {"radii": [0.1, 1.58], "activation": a, "constraint": c, "epsilon": None, "constant": CONSTANTS.get(c)} | at
        for a, c in kinds
    ]


def _mnist_robust(at):
    two = {"constraint": "Björck", "epsilon": 1.5, "radii": [0.3, 1.58], "attacks": [1.58]}
    inf = {"constraint": "rows after step", "constant": 1000.0, "radii": [0.05, 0.1], "attacks": [0.1]}
    kinds = [two | {"activation": a} for a in PAIR]
    kinds += [inf | {"epsilon": e, "activation": a} for e, a in product((0.3, 0.1), PAIR)]
    return [at | kind for kind in kinds]


def _undead():
    kinds = [("none", None, None), ("Björck", 10.0, None), ("Björck", 1.0, None), ("Björck", 1.0, 0.5)]
    return [
        {"dataset": "digits", "constraint": c, "constant": K, "epsilon": e, "epochs": 15, "seed": s}
        for (c, K, e), s in product(kinds, range(3))
    ]


absolute = Table(
    "groupsort",
    "absolute",
    absolute_value_run,
    {"laptop": lambda: _absolute({}), "paper": lambda: _absolute(AUTO)},
    columns=("activation", "hidden", "steps", "lr", "seed", "estimate"),
    probe={"activation": "ReLU", "hidden": 2, "steps": 60, "lr": 0.02, "seed": 7, "dtype": "float64"},
)
cones = Table(
    "groupsort",
    "cones",
    cone_run,
    {"laptop": lambda: _cones({}), "paper": lambda: _cones(CRITIC | AUTO)},
    columns=("dim", "activation", "width", "steps", "seed", "estimate", "exact", "constant"),
    probe={
        **{"dim": 16, "activation": "GroupSort4", "width": 32, "steps": 30},
        **{"n_test": 60, "seed": 7, "dtype": "float64"},
    },
)
three_cones = Table(
    "groupsort",
    "three_cones",
    cone_run,
    {"laptop": lambda: _three_cones({}), "paper": lambda: _three_cones(CRITIC | AUTO)},
    columns=("dim", "centres", "activation", "steps", "batch_size", "seed", "estimate", "exact", "constant"),
    probe={
        **{"dim": 2, "centres": [-2.0, 0.0, 2.0], "activation": "MaxMin", "steps": 30, "batch_size": 30},
        **{"n_test": 60, "seed": 7, "dtype": "float64"},
    },
)
gan_distance = Table(
    "groupsort",
    "gan_distance",
    gan_run,
    {
        "laptop": lambda: _gan_distance({}),
        "paper": lambda: _gan_distance(
            {"dataset": "mnist full", "n_images": None, "hidden": [720, 720], "gan_steps": 50_000} | AUTO
        ),
    },
    columns=(
        *("dataset", "activation", "gan_steps", "hidden", "steps", "n_test", "seed"),
        *("estimate", "exact", "constant", "trained"),
    ),
    probe={
        **{"dataset": "digits", "activation": "MaxMin", "gan_steps": 1, "hidden": [16, 16], "steps": 10},
        **{"n_images": 200, "n_test": 60, "seed": 7, "dtype": "float64"},
    },
)
lwgan = Table(
    "groupsort",
    "lwgan",
    lwgan_run,
    {
        "laptop": lambda: _lwgan({}),
        "paper": lambda: _lwgan({"dataset": "mnist full", "n_images": None, "gan_steps": 50_000} | AUTO),
    },
    columns=("dataset", "critic", "gan_steps", "seed", "before", "after"),
    probe={
        **{"dataset": "digits", "critic": "Lipschitz", "gan_steps": 1, "n_critic": 1, "batch_size": 8},
        **{"n_images": 200, "n_test": 60, "seed": 7},
    },
    tolerance=1e-4,  # in float32, a fifth of the time
)
spectra = Table(
    "groupsort",
    "spectra",
    spectrum_run,
    {
        "laptop": lambda: [
            {"activation": a, "weights": w, "depth": 10, "width": 64, "seed": s}
            for a, w, s in product(PAIR, ("orthogonal", "spectral norm"), range(3))
        ]
    },
    columns=("activation", "weights", "depth", "width", "seed", "mean", "largest", "smallest"),
    probe={"activation": "ReLU", "weights": "spectral norm", "depth": 4, "width": 16, "seed": 7},
)
digits = Table(
    "groupsort",
    "digits",
    classify_run,
    {"laptop": lambda: _digits({}), "paper": lambda: _digits(AUTO)},
    columns=(
        *("dataset", "radii", "attacks", "activation", "constraint", "epsilon", "seed", *MEASURED),
        *("certified 0.25", "certified 0.5", "attacked 0.5"),
    ),
    probe={
        **{"dataset": "digits", "radii": [0.25, 0.5], "attacks": [0.5], "attack_steps": 5, "activation": "MaxMin"},
        **{"constraint": "Björck", "epsilon": 0.5, "epochs": 4, "hidden": [32], "seed": 7, "dtype": "float64"},
    },
)
digits_inf = Table(
    "groupsort",
    "digits_inf",
    classify_run,
    {"laptop": lambda: _digits_inf({}), "paper": lambda: _digits_inf(AUTO)},
    columns=(
        *("dataset", "radii", "attacks", "epsilon", "epochs", "activation", "constraint", "seed", *MEASURED),
        *("certified 0.02", "certified 0.05", "certified 0.1", "attacked 0.05"),
    ),
    probe={
        **{"dataset": "digits", "radii": [0.02, 0.05, 0.1], "attacks": [0.05], "attack_steps": 5, "epsilon": 0.1},
        **{"epochs": 4, "activation": "MaxMin", "constraint": "rows after step", "hidden": [32]},
        **{"seed": 7, "dtype": "float64"},
    },
)
mnist = Table(
    "groupsort",
    "mnist",
    classify_run,
    {"laptop": lambda: _mnist(MNIST), "paper": lambda: _mnist(MNIST_FULL)},
    columns=(
        *("dataset", "epochs", "lr", "radii", "seed", "activation", "constraint", "epsilon", *MEASURED),
        *("certified 0.1", "certified 1.58", "constant"),
    ),
    probe={
        **{"dataset": "mnist", "epochs": 1, "lr": 3e-3, "radii": [0.1, 1.58], "seed": 7, "activation": "ReLU"},
        **{"constraint": "dropout", "epsilon": None, "hidden": [16], "dtype": "float64"},
    },
)
mnist_robust = Table(
    "groupsort",
    "mnist_robust",
    robust_run,
    {"laptop": lambda: _mnist_robust(MNIST), "paper": lambda: _mnist_robust(MNIST_FULL)},
    columns=(
        *("dataset", "epochs", "lr", "seed", "activation", "constraint", "epsilon", "radii", "attacks", *MEASURED),
        *(*ROBUST[:3], "constant", *ROBUST[3:]),
    ),
    probe={
        **{"dataset": "mnist", "epochs": 1, "lr": 3e-3, "seed": 7, "activation": "MaxMin", "hidden": [16]},
        **{"constraint": "rows after step", "epsilon": 0.1, "constant": 1000.0, "radii": [0.05, 0.1]},
        **{"attacks": [0.1], "attack_steps": 3, "dtype": "float64"},
    },
)
undead = Table(
    "groupsort",
    "undead",
    undead_run,
    {"laptop": _undead},
    columns=("dataset", "constraint", "constant", "epsilon", "epochs", "seed", "undead", "clean"),
    probe={
        **{"dataset": "digits", "constraint": "Björck", "constant": 10.0, "epsilon": None, "epochs": 3},
        **{"hidden": [32], "seed": 7},
    },
)
