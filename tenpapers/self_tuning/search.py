"""How do searches spend the same budget? Grid, random, Bayesian and median-pruned search by optuna.

A search trains many ordinary networks from the beginning, each at constant values. All get the same total number of
training steps; a trial that is stopped early leaves its steps to further trials. Chapter: ``book/self_tuning.ipynb``.
"""

import math
import random
from collections.abc import Callable, Mapping
from itertools import product

import optuna
import pandas as pd

from nnlib.modes import NonFiniteLoss
from tenpapers.self_tuning.workloads import Box

Watch = Callable[[int, dict[str, float]], None]
METHODS = ("Grid search", "Random search", "Bayesian search", "Median-pruned search")
COMPLETE, PRUNED, FAIL = (optuna.trial.TrialState[name] for name in ("COMPLETE", "PRUNED", "FAIL"))
STARTUP = 4  # trials at random before Bayesian search has a model, and before the median is taken


class Stopped(Exception):
    """Raised by a trial's watch: the trial is no better than the median of those before it."""


def search(
    method: str,
    boxes: Mapping[str, Box],
    trial: Callable[[dict[str, float], Watch], None],
    *,
    trials: int,
    steps: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Try values until the budget of ``trials`` times ``steps`` training steps is used up.

    Args:
        method: One of ``METHODS``. Bayesian is optuna's tree-structured Parzen estimator; median-pruned is random
            search that stops a trial whose best loss so far is above the median of the finished trials' at that step.
        boxes: By name, (low, high, log).
        trial: ``trial(values, watch)`` trains a fresh network and calls ``watch(step, found)`` now and then, ``found``
            having a ``validation_loss``; it must let the exception of ``watch`` pass.
        trials: Number of whole trials that the budget pays for.
        steps: Of one whole trial.
        seed: Of the values tried.

    Returns:
        One row a call of ``watch``: ``trial, cost`` (training steps spent by then, of all trials), ``step``, what was
        found, and the values. A trial that diverges ends, and costs what it ran.

    Raises:
        ValueError: for an unknown method or an empty budget.

    Source: optuna, arXiv 1907.10902. Chapter: ``book/self_tuning.ipynb``.

    >>> def trial(values, watch):
    ...     for step in (10, 20):
    ...         watch(step, {"validation_loss": (values["rate"] - 0.3) ** 2 + 1 / step})
    >>> runs = search("Bayesian search", {"rate": (0.0, 0.9, False)}, trial, trials=6, steps=20)
    >>> int(runs.cost.max()), runs.trial.nunique()
    (120, 6)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}: got {method!r}")
    if trials < 1 or steps < 1:
        raise ValueError(f"trials and steps must be positive: got {trials} and {steps}")
    study = _study(method, boxes, trials, seed)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(low, high, log=log) for name, (low, high, log) in boxes.items()
    }
    points = math.prod(grid_sizes(boxes, trials).values()) if method == "Grid search" else math.inf
    rows: list[dict] = []
    spent = number = 0
    while number < points and spent + steps <= trials * steps:
        asked = study.ask(distributions)
        watched, state = _Watched(asked, steps if method == "Median-pruned search" else 0), COMPLETE
        try:
            trial(dict(asked.params), watched)
        except Stopped:
            state = PRUNED
        except NonFiniteLoss as error:
            watched.step, state = error.step, FAIL
        study.tell(asked, watched.best if state == COMPLETE else None, state)
        rows += [{"trial": number, "cost": spent + row["step"]} | row for row in watched.rows]
        number, spent = number + 1, spent + watched.step
    return pd.DataFrame(rows)


class _Watched:
    """Notes what a trial finds, and stops it before ``prune_before`` where it is worse than the median."""

    def __init__(self, asked: optuna.Trial, prune_before: int):
        self.asked, self.prune_before = asked, prune_before
        self.rows: list[dict] = []
        self.step, self.best = 0, math.inf

    def __call__(self, step: int, found: dict[str, float]) -> None:
        self.step, self.best = step, min(self.best, found["validation_loss"])
        self.rows.append({"step": step} | found | self.asked.params)
        self.asked.report(found["validation_loss"], step)
        if step < self.prune_before and self.asked.should_prune():
            raise Stopped


def grid_sizes(boxes: Mapping[str, Box], trials: int) -> dict[str, int]:
    """How many values of each hyperparameter a grid of at most ``trials`` points has: as even as it goes.

    >>> grid_sizes({"a": (0, 1, False), "b": (0, 1, False), "c": (0, 1, False)}, 12)
    {'a': 3, 'b': 2, 'c': 2}
    """
    sizes = dict.fromkeys(boxes, 1)
    while True:
        for name in sorted(boxes, key=sizes.__getitem__):
            larger = sizes | {name: sizes[name] + 1}
            if math.prod(larger.values()) <= trials:
                sizes = larger
                break
        else:
            return sizes


def grid_values(box: Box, n: int) -> list[float]:
    """The middles of n equal pieces of a box, on its scale."""
    low, high, log = box
    ends = (math.log(low), math.log(high)) if log else (low, high)
    middles = [ends[0] + (ends[1] - ends[0]) * (i + 0.5) / n for i in range(n)]
    return [math.exp(x) for x in middles] if log else middles


def _study(method: str, boxes: Mapping[str, Box], trials: int, seed: int) -> optuna.Study:
    if method == "Bayesian search":
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else a line on stderr for each study
    try:
        study = optuna.create_study(direction="minimize", sampler=sampler, pruner=pruner)
        if method == "Grid search":  # in an order of chance, so that a part of the grid is no corner of it
            for point in _grid(boxes, trials, seed):
                study.enqueue_trial(point)
        return study
    finally:
        optuna.logging.set_verbosity(before)


def _grid(boxes: Mapping[str, Box], trials: int, seed: int) -> list[dict[str, float]]:
    sizes = grid_sizes(boxes, trials)
    points = list(product(*(grid_values(box, sizes[name]) for name, box in boxes.items())))
    random.Random(seed).shuffle(points)
    return [dict(zip(boxes, point, strict=True)) for point in points]
