"""The tables of the chapter: which network is trained on what, by which method, and what is measured.

Chapter: ``book/natural_gradient.ipynb``.
"""

from itertools import combinations
from typing import Any

import pandas as pd

from tenpapers.natural_gradient import batches, measure, units
from tenpapers.runs import NotRun, Table

# lr: of gradient descent, a share of 1 / lambda_max
METHODS = (("GD", 1.0), ("Natural gradient", 0.3), ("Natural gradient", 1.0), ("K-FAC", 1.0))
SIZES: dict[str, dict[str, Any]] = {
    "laptop": {
        "data": {"sphere": 24, "digits": 100, "mnist": 100},
        "widths": (64, 256, 1024, 4096, 16384),
        "gap_widths": (256, 4096, 65536),
        "pairs": 300,
        "bound": 1000,
        "noise": {"n": 300, "width": 4096},
        "seeds": range(5),
        "device": "cpu",
    },
    "paper": {
        "data": {"sphere": 200, "digits": 250, "mnist": 1000},
        "widths": (256, 1024, 4096, 16384, 65536),
        "gap_widths": (4096, 65536, 2**20),
        "pairs": 1000,
        "bound": 1500,
        "noise": {"n": 1000, "width": 16384},
        "seeds": range(5),
        "device": "auto",
    },
}
SEEDS = range(10)  # of what takes a second


def _widths(profile: str) -> list[dict[str, Any]]:
    size = SIZES[profile]
    return [
        {"data": data, "n": n, "method": method, "width": width, "lr": lr, "steps": 12, "seed": seed}
        | {"device": size["device"]}
        for data, n in size["data"].items()
        for width in size["widths"]
        for method, lr in METHODS
        for seed in size["seeds"]
    ]


def _conditioning(profile: str) -> list[dict[str, Any]]:
    size = SIZES[profile]
    return [
        {"gap": gap, "method": method, "width": width, "lr": lr, "steps": 12, "seed": seed, "device": size["device"]}
        for gap in (1.0, 0.3, 0.1, 0.03, 0.01)
        for width in size["gap_widths"]
        for method, lr in (("GD", 1.0), ("Natural gradient", 0.3), ("K-FAC", 0.3))
        for seed in size["seeds"]
    ]


def _pairs(profile: str) -> list[dict[str, Any]]:
    size = SIZES[profile]
    chosen = [(a, b, size["pairs"], 0) for a, b in combinations(range(10), 2)]
    chosen += [(0, 1, size["bound"], seed) for seed in size["seeds"]]
    return [
        {"data": "mnist", "first": a, "second": b, "n": n, "seed": seed, "device": size["device"]}
        for a, b, n, seed in chosen
    ]


def _noise(profile: str) -> list[dict[str, Any]]:
    size = SIZES[profile]
    return [
        {"data": "mnist", "share": share, "seed": seed, "device": size["device"]} | size["noise"]
        for share in (0.0, 0.1, 0.25, 0.5)
        for seed in size["seeds"]
    ]


def best(tuned: pd.DataFrame) -> pd.DataFrame:
    """Of each method the setting with the lowest mean validation loss; one that diverged on any seed is out.

    Returns:
        By method: ``lr``, ``damping``, ``validation``, ``edge``, whether lr is at an end of its grid, and ``tried``.
    """
    groups = tuned.groupby(["method", "lr", "damping"], sort=False)["validation"]
    means = groups.agg(lambda part: part.mean(skipna=False)).reset_index()
    rows = means.loc[means.groupby("method", sort=False)["validation"].idxmin()].set_index("method")
    ends = means.groupby("method", sort=False)["lr"].agg(["min", "max"]).loc[rows.index]
    rows["edge"] = (rows.lr == ends["min"]) | (rows.lr == ends["max"])
    return rows.assign(tried=means.groupby("method", sort=False).size().loc[rows.index])


def _tuning(profile: str) -> list[dict[str, Any]]:
    return [
        {"method": method, "lr": lr, "damping": damping, "epochs": 5, "seed": seed}
        for method, trials in batches.TRIALS.items()
        for lr, damping in trials
        for seed in (100, 101, 102)
    ]


def _deep(profile: str) -> list[dict[str, Any]]:
    """The tuned settings on other seeds; none before they are tuned."""
    try:
        chosen = best(tuning.read(profile))
    except NotRun:
        return []
    return [
        {"method": method, "lr": row.lr, "damping": row.damping, "epochs": 5, "seed": seed}
        for method, row in chosen.iterrows()
        for seed in SEEDS
    ]


widths = Table(
    "natural_gradient",
    "widths",
    measure.measure_run,
    {"laptop": lambda: _widths("laptop"), "paper": lambda: _widths("paper")},
    columns=(
        *("data", "n", "method", "width", "lr", "steps", "seed", "first", "slowest", "kept", "within", "movement"),
        *("limit", "drift", "constant", "detour"),
    ),
    probe={"data": "digits", "n": 40, "method": "K-FAC", "width": 512, "lr": 0.5, "steps": 6, "seed": 7},
)
conditioning = Table(
    "natural_gradient",
    "conditioning",
    measure.measure_conditioning,
    {"laptop": lambda: _conditioning("laptop"), "paper": lambda: _conditioning("paper")},
    columns=("gap", "method", "width", "lr", "steps", "seed", "limit", "kept", "pair"),
    probe={"gap": 0.2, "method": "Natural gradient", "width": 512, "lr": 0.4, "steps": 5, "seed": 7},
)
pairs = Table(
    "natural_gradient",
    "pairs",
    measure.measure_pair,
    {"laptop": lambda: _pairs("laptop"), "paper": lambda: _pairs("paper")},
    columns=("data", "first", "second", "n", "seed", "complexity", "bound", "kernel_error"),
    probe={"data": "digits", "first": 3, "second": 8, "n": 80, "seed": 7},
)
noise = Table(
    "natural_gradient",
    "noise",
    measure.measure_noise,
    {"laptop": lambda: _noise("laptop"), "paper": lambda: _noise("paper")},
    columns=("data", "n", "share", "width", "seed", "complexity", "network_error", "kernel_error", "left"),
    probe={"data": "digits", "n": 60, "share": 0.2, "width": 512, "seed": 7, "steps": 6},
)
order = Table(
    "natural_gradient",
    "order",
    measure.measure_order,
    {
        "laptop": lambda: [{"data": "mnist", "n": 300, "seed": seed} for seed in range(3)],
        "paper": lambda: [{"data": "mnist", "n": 1000, "seed": seed, "device": "auto"} for seed in range(5)],
    },
    columns=("data", "n", "seed", "pairs", "rank"),
    probe={"data": "digits", "n": 40, "seed": 7, "classes": 4},
)
leverage = Table(
    "natural_gradient",
    "leverage",
    measure.measure_leverage,
    {"laptop": lambda: [{"width": 16384, "lr": 0.5, "steps": 6, "seed": seed} for seed in SEEDS]},
    columns=("width", "lr", "steps", "seed", "deviation"),
    probe={"width": 512, "lr": 0.5, "steps": 4, "seed": 17},
)
losses = Table(
    "natural_gradient",
    "losses",
    measure.measure_loss,
    {
        "laptop": lambda: [
            {"mu": mu, "share": share, "width": 4096, "steps": 3, "seed": seed}
            for mu in (0.1, 1.0)
            for share in (0.5, 1.0)
            for seed in SEEDS
        ]
    },
    columns=("mu", "share", "width", "steps", "seed", "lr", "promised", "largest", "left"),
    probe={"mu": 0.3, "share": 0.8, "width": 512, "steps": 2, "seed": 17},
)
ball = Table(
    "natural_gradient",
    "ball",
    measure.measure_ball,
    {"laptop": lambda: [{"width": 2**18, "seed": seed} for seed in SEEDS]},
    columns=("width", "seed", "certified", "broken", "sufficient", "necessary"),
    probe={"width": 2**12, "seed": 17},
)
in_units = Table(
    "natural_gradient",
    "in_units",
    units.measure_units,
    {
        "laptop": lambda: [
            {"method": method, "factor": factor, "width": width, "d": d, "seed": seed}
            for d in (10, 40)
            for width in (256, 4096)
            for factor in (2.0, 4.0, 8.0)
            for method in units.METHODS
            for seed in SEEDS
        ]
    },
    columns=("method", "factor", "width", "d", "seed", "training", "test"),
    probe={"method": "Natural gradient", "factor": 3.0, "width": 512, "d": 8, "seed": 17},
)
passes = Table(
    "natural_gradient",
    "passes",
    batches.measure_epochs,
    {
        "laptop": lambda: [
            {"gap": gap, "batch_size": batch_size, "seed": seed}
            for gap in (1.0, 0.3, 0.1)
            for batch_size in (24, 12, 6, 2, 1)
            for seed in range(20)
        ]
    },
    columns=("gap", "batch_size", "seed", "epochs", "limit"),
    probe={"gap": 0.5, "batch_size": 4, "seed": 77},
)
tuning = Table(
    "natural_gradient",
    "tuning",
    batches.measure_deep,
    {"laptop": lambda: _tuning("laptop")},
    columns=("method", "lr", "damping", "epochs", "seed", "loss", "log_loss", "validation", "error"),
    probe={"method": "Natural gradient", "lr": 0.3, "damping": 1.0, "epochs": 1, "batch_size": 200, "seed": 17},
)
deep = Table(
    "natural_gradient",
    "deep",
    batches.measure_deep,
    {"laptop": lambda: _deep("laptop")},
    columns=("method", "lr", "damping", "epochs", "seed", "loss", "log_loss", "validation", "error"),
    probe={"method": "K-FAC", "lr": 0.1, "damping": 0.3, "epochs": 1, "batch_size": 200, "seed": 17},
)
