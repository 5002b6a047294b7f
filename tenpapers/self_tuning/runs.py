"""The tables of the chapter: tuners beside searches, schedules beside constants, and one tuner from several starts.

Budgets come from trial runs at one seed (10) that no record uses. Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tenpapers.runs import Table
from tenpapers.self_tuning.measure import ALL, VARIANTS, compare
from tenpapers.self_tuning.measure import schedules as schedules_of
from tenpapers.self_tuning.measure import starts as starts_of

Cell = dict[str, Any]


class Budget(NamedTuple):
    """What one problem is given: seeds, whole trainings that the budget pays for, steps of one, and dtype."""

    seeds: tuple[int, ...]
    trials: int
    steps: int
    dtype: str = "float32"


LAPTOP = {
    "MLP, digits": Budget(seeds=(0, 1, 2), trials=8, steps=400, dtype="float64"),
    "MLP, MNIST": Budget(seeds=(0, 1, 2), trials=8, steps=400),
    "CNN, digits": Budget(seeds=(0, 1, 2), trials=6, steps=200),
    "LSTM, words": Budget(seeds=(0, 1, 2), trials=3, steps=200),
    "LSTM, characters": Budget(seeds=(0, 1, 2), trials=3, steps=200),
}
PAPER = {
    "MLP, MNIST (paper)": Budget(seeds=(0,), trials=8, steps=100_000),
    "AlexNet, CIFAR-10": Budget(seeds=(0,), trials=8, steps=60_000),
    "LSTM, words (paper)": Budget(seeds=(0,), trials=8, steps=20_000),
}
RATES = [0.0, 0.15, 0.3, 0.45, 0.6]  # constant dropout rates
STUDIES = (  # one hyperparameter on a schedule
    {"problem": "MLP, digits", "name": "dropout 1", "steps": 400, "dtype": "float64"},
    {"problem": "LSTM, words", "name": "output dropout", "steps": 400, "dtype": "float32"},
)
PAPER_STUDY = {"problem": "LSTM, words (paper)", "name": "output dropout", "steps": 20_000, "dtype": "float32"}
STARTS = (0.05, 0.3, 0.5, 0.7, 0.85)
FROM = {"problem": "MLP, digits", "name": "dropout 1", "steps": 1000, "dtype": "float64", "hyper_lr": 0.05}


def _budgets(budgets: Mapping[str, Budget], device: str) -> list[Cell]:
    """Every method on every problem and seed."""
    return [
        {"problem": name, "method": method, "seed": seed, "device": device}
        | {"trials": given.trials, "steps": given.steps, "dtype": given.dtype}
        for name, given in budgets.items()
        for method in ALL
        for seed in given.seeds
    ]


def _study(cell: Cell, seed: int, device: str) -> Cell:
    return cell | {"values": RATES, "variant": "STN", "seed": seed, "device": device}


def _starts() -> list[Cell]:
    """Both tuners from every start."""
    return [FROM | {"start": start, "variant": variant} for variant in VARIANTS for start in STARTS]


budget = Table(
    "self_tuning",
    "budget",
    compare,
    {"laptop": lambda: _budgets(LAPTOP, "cpu"), "paper": lambda: _budgets(PAPER, "auto")},
    columns=("problem", "method", "seed", "cost", "validation_loss", "test_loss", "found", "took"),
    probe={"problem": "MLP, digits", "method": "STN", "seed": 7, "trials": 3, "steps": 60, "dtype": "float64"},
    timed=("took",),
)
schedules = Table(
    "self_tuning",
    "schedules",
    schedules_of,
    {
        "laptop": lambda: [_study(cell, seed, "cpu") for cell in STUDIES for seed in (0, 1, 2)],
        "paper": lambda: [_study(PAPER_STUDY, 0, "auto")],
    },
    columns=("problem", "variant", "seed", "schedule", "value", "validation_loss", "test_loss"),
    probe=STUDIES[0] | {"values": [0.0, 0.3], "variant": "STN", "seed": 7, "steps": 30},
)
starts = Table(
    "self_tuning",
    "starts",
    starts_of,
    {"laptop": _starts, "paper": _starts},
    columns=("problem", "start", "variant", "step", "value", "sigma"),
    probe=FROM | {"start": 0.4, "variant": "Δ-STN", "steps": 120},
)
