"""The tables of the chapter: networks trained by every optimiser at every batch size, tuned, and run again.

The model itself is computed where it is shown, and needs no table. Chapter: ``book/nqm.ipynb``.
"""

from typing import Any

from tenpapers.nqm.measure import best_rates, repeated, tuned
from tenpapers.nqm.workloads import workload_of
from tenpapers.runs import NotRun, Table

NETWORKS = {"laptop": ("digits", "mnist"), "paper": ("mnist_cnn", "fashion_mnist_cnn")}
SEEDS = {"laptop": 3, "paper": 5}  # that settings are tuned on: 0, 1, ...
FRESH = {"laptop": range(3, 13), "paper": range(5, 10)}  # that the tuned settings are judged on
DEVICE = {"laptop": "cpu", "paper": "auto"}


def _tuned(profile: str) -> list[dict[str, Any]]:
    return [
        {"workload": name, "optimizer": optimizer, "batch_size": batch_size}
        | {"seeds": SEEDS[profile], "device": DEVICE[profile]}
        for name in NETWORKS[profile]
        for optimizer in workload_of(name).lr
        for batch_size in workload_of(name).batch_sizes
    ]


def _repeated(profile: str) -> list[dict[str, Any]]:
    """The best settings on record, without averaging, and SGD's with it; none where nothing was tuned."""
    try:
        best = networks.read(profile)
    except NotRun:
        return []
    best = best[~best.average | (best.optimizer == "SGD")]
    names = ["workload", "optimizer", "batch_size", "lr", "momentum", "decay"]
    given = best[names].drop_duplicates()  # where the best average is none at all, the two are one
    also = {"seeds": list(FRESH[profile]), "device": DEVICE[profile]}
    return [dict(zip(names, row, strict=True)) | also for row in given.itertuples(index=False)]


def _rates(profile: str) -> list[dict[str, Any]]:
    return [
        {"workload": name, "batch_size": batch_size, "seeds": list(range(5)), "device": DEVICE[profile]}
        for name in NETWORKS[profile]
        for batch_size in workload_of(name).batch_sizes
    ]


networks = Table(
    "nqm",
    "networks",
    tuned,
    {"laptop": lambda: _tuned("laptop"), "paper": lambda: _tuned("paper")},
    columns=(
        *("workload", "optimizer", "batch_size", "average", "momentum", "lr", "decay"),
        *("steps", "low", "high", "seeds", "edge"),
    ),
    probe={"workload": "digits", "optimizer": "Adam", "batch_size": 256, "seeds": 1, "device": "cpu"},
)
by_seed = Table(
    "nqm",
    "by_seed",
    repeated,
    {"laptop": lambda: _repeated("laptop"), "paper": lambda: _repeated("paper")},
    columns=("workload", "optimizer", "batch_size", "lr", "momentum", "decay", "seed", "steps"),
    probe={
        **{"workload": "digits", "optimizer": "SGD", "batch_size": 256, "lr": 0.5, "momentum": 0.0, "decay": 0.8},
        **{"seeds": [7, 8], "device": "cpu"},
    },
)
rates = Table(
    "nqm",
    "rates",
    best_rates,
    {"laptop": lambda: _rates("laptop"), "paper": lambda: _rates("paper")},
    columns=("workload", "batch_size", "seed", "lr", "steps", "edge"),
    probe={"workload": "digits", "batch_size": 256, "seeds": [7], "device": "cpu"},
)
