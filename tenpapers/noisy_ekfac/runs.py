"""The tables of the chapter: regression sets on all their standard splits, images over seeds.

Chapter: ``book/noisy_ekfac.ipynb``.
"""

from typing import Any

from tenpapers.noisy_ekfac.measure import classify, regress
from tenpapers.noisy_ekfac.workloads import BASIS_EVERY, EPOCHS, KRONECKER, LARGE, RATES
from tenpapers.runs import Table

Cell = dict[str, Any]
SPLITS = list(range(20))
SEEDS = {"MLP, digits": 10, "CNN, MNIST": 10, "VGG, Fashion-MNIST": 5}
BASIS = {"update_basis_every": BASIS_EVERY}
USUAL: tuple[tuple[str, Cell], ...] = (
    ("Bayes by backprop", {}),
    ("Noisy Adam", {}),
    ("Noisy K-FAC", BASIS | {"damping_kind": "factored"}),
    ("Noisy K-FAC", BASIS | {"damping_kind": "exact"}),
    ("Noisy EK-FAC", BASIS),
)


def _regression(name: str, method: str, paper: bool, kl_weight: float = 1.0, **options: Any) -> Cell:
    """A run on all splits of a set."""
    cell = {"data": name, "method": method, "splits": SPLITS, "kl_weight": kl_weight, **options}
    cell |= {"epochs": 1000 if paper else EPOCHS[name], "particles": 10 if paper else 4}
    return cell | {"batch_size": 100 if name in LARGE else 10, "device": "auto" if paper else "cpu"}


def _sets(paper: bool) -> list[Cell]:
    """Every method on every set; colder posteriors; what becomes of R when the axes change every 100 steps."""
    usual = [_regression(name, method, paper, **options) for name in EPOCHS for method, options in USUAL]
    cold = [
        _regression(name, method, paper, tau, **options)
        for name in ("boston", "concrete", "yacht")
        for tau in (0.5, 0.2)
        for method, options in (("Noisy K-FAC", BASIS | {"damping_kind": "factored"}), ("Noisy EK-FAC", BASIS))
    ]
    stale = [
        _regression(name, "Noisy EK-FAC", paper, update_basis_every=100, on_basis_change=kind)
        for name in ("boston", "yacht")
        for kind in ("project", "reset", "keep")
    ]
    return usual + cold + stale


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


def _cifar() -> list[Cell]:
    return [{"workload": "VGG16, CIFAR-10", "method": m, "kl_weight": 0.1, "seed": 0, "device": "auto"} for m in RATES]


uci = Table(
    "noisy_ekfac",
    "uci",
    regress,
    {"laptop": lambda: _sets(paper=False), "paper": lambda: _sets(paper=True)},
    columns=(
        *("data", "method", "damping_kind", "kl_weight", "on_basis_change", "update_basis_every", "epochs", "split"),
        *("rmse", "log_likelihood", "coverage", "calibration_error", "noise", "kl", "cpu_seconds"),
    ),
    probe={
        **{"data": "diabetes", "method": "Noisy EK-FAC", "splits": [3, 7], "kl_weight": 0.5, "epochs": 4},
        **{"update_basis_every": 5, "on_basis_change": "reset", "batch_size": 100, "particles": 3},
        **{"test_particles": 20, "seed": 7, "dtype": "float64"},
    },
    timed=("cpu_seconds",),
)
images = Table(
    "noisy_ekfac",
    "images",
    classify,
    {"laptop": _images, "paper": _cifar},
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
