"""The runs of the laptop profile, as cells for a sweep; and of the paper profile.

Learning rates, budgets and the tuners' rates come from trial runs at one seed (10) that no record uses.
Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from tenpapers.self_tuning.compare import ALL, VARIANTS

Cell = dict[str, Any]


class Budget(NamedTuple):
    """What one problem is given: seeds, whole trainings that the budget pays for, steps of one, and dtype."""

    seeds: tuple[int, ...]
    trials: int
    steps: int
    dtype: str = "float32"


BUDGETS = {
    "MLP, digits": Budget((0, 1, 2), 8, 400, "float64"),
    "MLP, MNIST": Budget((0, 1, 2), 8, 400),
    "CNN, digits": Budget((0, 1, 2), 6, 200),
    "LSTM, words": Budget((0, 1, 2), 3, 200),
    "LSTM, characters": Budget((0, 1, 2), 3, 200),
}
PAPER = {
    "MLP, MNIST (paper)": Budget((0,), 8, 100_000),
    "AlexNet, CIFAR-10": Budget((0,), 8, 60_000),
    "LSTM, words (paper)": Budget((0,), 8, 20_000),
}
RATES = (0.0, 0.15, 0.3, 0.45, 0.6)  # constant dropout rates
# One hyperparameter on a schedule.
STUDIES = (
    {"problem": "MLP, digits", "name": "dropout 1", "steps": 400, "dtype": "float64"},
    {"problem": "LSTM, words", "name": "output dropout", "steps": 400, "dtype": "float32"},
)
PAPER_STUDIES = ({"problem": "LSTM, words (paper)", "name": "output dropout", "steps": 20_000, "dtype": "float32"},)
STARTS = (0.05, 0.3, 0.5, 0.7, 0.85)
FROM = {"problem": "MLP, digits", "name": "dropout 1", "steps": 1000, "dtype": "float64", "hyper_lr": 0.05}


def comparisons(budgets: dict[str, Budget], **where) -> list[Cell]:
    """Keywords for :func:`tenpapers.self_tuning.compare.compare`: every method on every problem and seed.

    >>> len(comparisons({"MLP, digits": BUDGETS["MLP, digits"]}))
    21
    """
    return [
        {"problem": name, "method": method, "seed": seed, "trials": b.trials, "steps": b.steps, "dtype": b.dtype}
        | where
        for name, b in budgets.items()
        for method in ALL
        for seed in b.seeds
    ]


def studies(cells: Sequence[Cell] = STUDIES, seeds: Sequence[int] = (0, 1, 2)) -> list[Cell]:
    """Keywords for :func:`tenpapers.self_tuning.compare.schedules`."""
    return [cell | {"values": list(RATES), "variant": "STN", "seed": seed} for cell in cells for seed in seeds]


def from_everywhere() -> list[Cell]:
    """Keywords for :func:`tenpapers.self_tuning.compare.starts`: both tuners from every start."""
    return [FROM | {"start": start, "variant": variant} for variant in VARIANTS for start in STARTS]


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    """A sweep without the columns that only say how it was run; None where there is no number.

    Args:
        frame: As :func:`tenpapers.runs.sweep` returns it.
    """
    asked = {"trials", "steps", "dtype", "device", "values", "hyper_lr", "name", "error", "seconds"}
    kept = frame[[column for column in frame if column not in asked]].astype(object)
    shown = kept.where(kept.notna(), None)
    shown.attrs = frame.attrs
    return shown
