"""The numbers that the chapter's sentences say, each computed from the model or read from a record."""

from functools import lru_cache

import numpy as np
import pandas as pd

from nnlib.nqm import SGD, critical_batch_size, fit_hyperbola, optimal_schedule, steps_to_target
from tenpapers.nqm import comparisons, runs
from tenpapers.nqm.figures.curves import METHODS, PROBLEM, curve
from tenpapers.nqm.predictions import PIECES, POWERS, TARGET


def fewer(method: str, power: float = 0.0, end: int = 0, than: str = "SGD") -> float:
    """By how many percent a method needs fewer steps than another, at the smallest (0) or largest (-1) batch size."""
    return 100 * float(1 - curve(method, power).steps[end] / curve(than, power).steps[end])


def times(method: str, power: float = 0.0, end: int = 0) -> float:
    """SGD's steps over a method's."""
    return float(curve("SGD", power).steps[end] / curve(method, power).steps[end])


@lru_cache(maxsize=1)
def definitions() -> pd.DataFrame:
    """For each curve, largest over smallest of three critical batch sizes, and the hyperbola's misfit in percent."""
    rows = []
    for tuned in (curve(name, power) for power in POWERS for name in METHODS):
        sizes = [critical_batch_size(tuned, how) for how in ("asymptotes", "doubling", "hyperbola")]
        rows.append({"factor": max(sizes) / min(sizes), "misfit": 100 * fit_hyperbola(tuned).misfit})
    return pd.DataFrame(rows)


def bend(method: str) -> float:
    """Critical batch size over SGD's, p = 0."""
    return critical_batch_size(curve(method)) / critical_batch_size(curve("SGD"))


def again(network: str, method: str, batch_size: int) -> pd.Series:
    """Steps of a tuned setting on the seeds it was not tuned on."""
    frame = comparisons.repeated("laptop")
    here = (frame.workload == network) & (frame.method == method) & (frame.batch_size == batch_size)
    return frame[here].steps


def tuned(network: str, optimizer: str, batch_size: int) -> float:
    """Median steps on the seeds that it was tuned on."""
    where = {"workload": network, "optimizer": optimizer, "batch_size": batch_size, "average": False}
    return float(runs.networks.read(**where).steps.iloc[0])


def growth(network: str, optimizer: str) -> float:
    """The largest growth of the median, in percent, from the tuned seeds to the others, over batch sizes."""
    frame = runs.networks.read(workload=network, optimizer=optimizer, average=False)
    found = [
        again(network, optimizer, size).fillna(np.inf).median() / tuned(network, optimizer, size)
        for size in frame.batch_size
    ]
    return 100 * (max(found) - 1)


def saved_by_schedule(batch_size: int) -> float:
    """By how many percent the best schedule of 50 pieces needs fewer steps than a constant rate, p = 0."""
    constant = steps_to_target(PROBLEM, SGD, [batch_size], TARGET).steps[0]
    return 100 * float(1 - optimal_schedule(PROBLEM, batch_size, TARGET, PIECES).steps / constant)


def compared() -> pd.DataFrame:
    """All runs of the tuned settings on other seeds, of the methods that are compared with each other."""
    frame = comparisons.repeated("laptop")
    return frame[frame.method.isin(comparisons.OPTIMIZERS)]
