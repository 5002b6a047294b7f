"""The tables of the chapter: regression sets on all their standard splits, images over seeds, weights against HMC.

``uci`` are short runs of every method on ten sets; ``temperatures`` colder and colder posteriors, with a tenth of the
training part held out to choose among them; ``basis`` what becomes of R when the axes change more or less often;
``protocol`` the paper's recipe, a thousand passes with ten particles. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from itertools import product
from typing import Any

from tenpapers.noisy_ekfac.marginals import POSTERIORS, deviations
from tenpapers.noisy_ekfac.measure import classify
from tenpapers.noisy_ekfac.regression import regress
from tenpapers.noisy_ekfac.workloads import BASIS_EVERY, EPOCHS, KRONECKER, LARGE, RATES, SMALL
from tenpapers.runs import Table

Cell = dict[str, Any]
SPLITS = {"protein": 5}  # standard splits, where not twenty
SEEDS = {"MLP, digits": 10, "CNN, MNIST": 10, "VGG, Fashion-MNIST": 5}
BASIS = {"update_basis_every": BASIS_EVERY}
TAUS = (1.0, 0.5, 0.2, 0.1)
# Colder ones where validation took the coldest of those.
COOLED = {"boston": TAUS, "yacht": (*TAUS, 0.05, 0.02), "concrete": TAUS}
USUAL: tuple[tuple[str, Cell], ...] = (
    ("Bayes by backprop", {}),
    ("Noisy Adam", {}),
    ("Noisy K-FAC", BASIS | {"damping_kind": "factored"}),
    ("Noisy K-FAC", BASIS | {"damping_kind": "exact"}),
    ("Noisy EK-FAC", BASIS),
)
# The paper's settings: the axes every five steps, beta = .001 for the factors, omega = .01 for R.
FACTORS = {"decay": 0.999, "decays_fall": True}
PROTOCOL: tuple[tuple[str, Cell], ...] = (
    ("Bayes by backprop", {}),
    ("Noisy Adam", FACTORS),
    ("Noisy K-FAC", FACTORS | {"update_basis_every": 5, "damping_kind": "factored"}),
    ("Noisy K-FAC", FACTORS | {"update_basis_every": 5, "damping_kind": "exact"}),
    ("Noisy EK-FAC", FACTORS | {"update_basis_every": 5, "scale_decay": 0.99}),
    ("Noisy EK-FAC, as released", FACTORS | {"update_basis_every": 1, "scale_decay": 0.99}),
)


def _regression(name: str, method: str, kl_weight: float = 1.0, **options: Any) -> Cell:
    """A short run on all splits of a set."""
    cell = {"data": name, "method": method, "splits": list(range(SPLITS.get(name, 20))), "kl_weight": kl_weight}
    cell |= options | {"epochs": EPOCHS[name], "particles": 4}
    return cell | {"batch_size": 100 if name in LARGE else 10, "device": "cpu"}


def _sets() -> list[Cell]:
    """Every method on every set; colder posteriors; what becomes of R when the axes change every 100 steps."""
    usual = [_regression(name, method, **options) for name in EPOCHS for method, options in USUAL]
    cold = [
        _regression(name, method, tau, **options)
        for name in COOLED
        for tau in (0.5, 0.2)
        for method, options in (USUAL[2], USUAL[4])
    ]
    stale = [
        _regression(name, "Noisy EK-FAC", update_basis_every=100, on_basis_change=kind)
        for name in ("boston", "yacht")
        for kind in ("project", "reset", "keep")
    ]
    return usual + cold + stale


def _temperatures() -> list[Cell]:
    """The methods with a Fisher matrix at several temperatures, a tenth of the training part held out."""
    return [
        _regression(name, method, tau, **options, held_out=0.1)
        for name, taus in COOLED.items()
        for method, options in USUAL[1:]
        for tau in taus
    ]


def _basis() -> list[Cell]:
    """New axes after every 1, 10, 100 and 1,000 steps, and each way to treat R then."""
    return [
        _regression(name, "Noisy EK-FAC", update_basis_every=every, on_basis_change=kind) | {"splits": list(range(10))}
        for name in ("boston", "yacht")
        for every in (1, 10, 100, 1000)
        for kind in ("project", "reset", "keep")
    ]


def _protocol(sets: tuple[str, ...], device: str) -> list[Cell]:
    """The paper's recipe on sets, the smallest first."""
    return [
        {"data": name, "method": method, "splits": list(range(SPLITS.get(name, 20))), "kl_weight": 1.0, **options}
        | {"epochs": 1000, "particles": 10, "batch_size": 100 if name in LARGE else 10, "device": device}
        for name in sets
        for method, options in PROTOCOL
    ]


def _images() -> list[Cell]:
    """Every method on every network; on the digits two more temperatures for the methods with a Fisher matrix."""
    cells = [(workload, method, 0.1, seed) for workload in SEEDS for method in RATES for seed in range(SEEDS[workload])]
    cells += [
        ("MLP, digits", method, tau, seed)
        for method in ("Noisy Adam", *KRONECKER)
        for tau in (1.0, 0.01)
        for seed in range(SEEDS["MLP, digits"])
    ]
    return [{"workload": w, "method": m, "kl_weight": tau, "seed": s, "device": "cpu"} for w, m, tau, s in cells]


def _cifar(workload: str, device: str, papers: bool) -> list[Cell]:
    """With and without batch normalisation and augmentation; KL weights as the paper's, and all else where asked."""
    cells = []
    for seed, batch_norm, augmented in product(range(3), (True, False), (False, True)):
        options = {"batch_norm": batch_norm, "augmented": augmented, "kl_weight": 0.1 if augmented else 0.5}
        if papers:
            options |= {"lr": 0.01, "damping": 1e-3, "decay": 0.99, "particles": 10}
            options |= (
                {"kl_clip": 1e-2, "prior_variance": 1.0} if batch_norm else {"kl_clip": 1e-3, "prior_variance": 0.1}
            )
        cells += [
            {"workload": workload, "method": method, "seed": seed, "device": device, **options}
            for method in ("SGD", "Noisy Adam", *KRONECKER)
        ]
    return cells


PROBE = {
    **{"data": "diabetes", "method": "Noisy EK-FAC", "splits": [3, 7], "kl_weight": 0.5, "epochs": 4},
    **{"update_basis_every": 5, "on_basis_change": "reset", "batch_size": 100, "particles": 3},
    **{"test_particles": 20, "seed": 7, "dtype": "float64"},
}
uci = Table(
    "noisy_ekfac",
    "uci",
    regress,
    {"laptop": _sets},
    columns=(
        *("data", "method", "damping_kind", "kl_weight", "on_basis_change", "update_basis_every", "epochs", "split"),
        *("rmse", "log_likelihood", "coverage", "calibration_error", "noise", "kl", "cpu_seconds"),
    ),
    probe=PROBE,
    timed=("cpu_seconds",),
)
temperatures = Table(
    "noisy_ekfac",
    "temperatures",
    regress,
    {"laptop": _temperatures},
    columns=(
        *("data", "method", "damping_kind", "kl_weight", "split", "rmse", "log_likelihood", "coverage"),
        *("validation", "noise", "kl", "elbo", "cpu_seconds"),
    ),
    probe=PROBE | {"method": "Noisy K-FAC", "on_basis_change": None, "damping_kind": "exact", "held_out": 0.1},
    timed=("cpu_seconds",),
)
basis = Table(
    "noisy_ekfac",
    "basis",
    regress,
    {"laptop": _basis},
    columns=(
        *("data", "on_basis_change", "update_basis_every", "split", "rmse", "log_likelihood", "coverage"),
        *("kl", "elbo", "cpu_seconds"),
    ),
    probe=PROBE | {"on_basis_change": "project", "scale_decay": 0.8},
    timed=("cpu_seconds",),
)
protocol = Table(
    "noisy_ekfac",
    "protocol",
    regress,
    {
        "laptop": lambda: _protocol(("yacht", "boston", "diabetes", "energy", "concrete", "wine"), "cpu"),
        "paper": lambda: _protocol((*SMALL, *LARGE), "auto"),
    },
    columns=(
        *("data", "method", "damping_kind", "epochs", "split", "rmse", "log_likelihood", "coverage"),
        *("calibration_error", "noise", "kl", "elbo", "cpu_seconds"),
    ),
    probe=PROBE | {"method": "Noisy EK-FAC, as released", "on_basis_change": None, "decays_fall": True},
    timed=("cpu_seconds",),
    hours=1.5,
)
images = Table(
    "noisy_ekfac",
    "images",
    classify,
    {"laptop": _images},
    columns=(
        *("workload", "method", "seed", "accuracy", "log_likelihood", "calibration_error", "brier"),
        *("cpu_seconds", "source", "kl_weight"),
    ),
    probe={
        **{"workload": "CNN, MNIST", "method": "Noisy EK-FAC", "kl_weight": 0.2, "seed": 7},
        **{"steps": 2, "particles": 2, "dtype": "float64"},
    },
    timed=("cpu_seconds",),
    hours=0.7,
)
cifar10 = Table(
    "noisy_ekfac",
    "cifar10",
    classify,
    {
        "laptop": lambda: _cifar("VGG, CIFAR-10", "cpu", papers=False),
        "paper": lambda: _cifar("VGG16, CIFAR-10", "auto", papers=True),
    },
    columns=(
        *("workload", "method", "seed", "batch_norm", "augmented", "kl_weight"),
        *("accuracy", "log_likelihood", "calibration_error", "cpu_seconds"),
    ),
    probe={
        **{"workload": "VGG, Fashion-MNIST", "method": "Noisy K-FAC", "kl_weight": 0.5, "seed": 7, "steps": 2},
        **{"batch_norm": False, "augmented": True, "particles": 2, "dtype": "float64"},
    },
    timed=("cpu_seconds",),
    hours=0.5,
)
marginals = Table(
    "noisy_ekfac",
    "marginals",
    deviations,
    {"laptop": lambda: [{"seed": seed} for seed in range(10)]},
    columns=("seed", "weight", "layer", *POSTERIORS, "block", "fisher", "hmc", "rhat"),
    probe={"seed": 99, "chains": 2, "warm_up": 5, "samples": 10},
    tolerance=1e-5,
)
