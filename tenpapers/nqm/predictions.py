"""What the model says of methods and batch sizes: the numbers that the chapter's claims on it are judged by.

Each is computed here and now, at the paper's own settings: 10,000 eigenvalues 1/i, target 0.01.
"""

from functools import lru_cache

import numpy as np

from nnlib.nqm import (
    SGD,
    HeavyBall,
    IterateAverage,
    critical_batch_size,
    examples_lower_bound,
    expected_risk,
    optimal_schedule,
    steps_to_target,
    theorem_bound,
)
from tenpapers.nqm.figures.curves import BATCH_SIZES, METHODS, PROBLEM, curve

POWERS = (0.0, 0.25, 0.5, 0.75)
TARGET = 0.01
PIECES = 50  # of the schedules whose shape is looked at
AT_THE_LIMIT = 0.99  # a piece with this share of the highest rate counts as held at the limit


def ends(values: np.ndarray) -> dict[str, float]:
    """Those at the smallest and the largest batch size."""
    return {"at B = 4": float(values[0]), "at B = 2^20": float(values[-1])}


def saving(method: str) -> dict[str, float]:
    """SGD's steps over a method's, p = 0."""
    return ends(curve("SGD").steps / curve(method).steps)


def saving_of_preconditioning() -> dict[str, float]:
    """SGD's steps at p = 0 over those at p = 3/4."""
    return ends(curve("SGD").steps / curve("SGD", 0.75).steps)


def preconditioning() -> dict[str, bool]:
    """Whether steps fall and critical batch sizes rise from p = 0 to 1/4, 1/2 and 3/4."""
    steps = np.stack([curve("SGD", power).steps for power in POWERS])
    critical = [critical_batch_size(curve("SGD", power)) for power in POWERS]
    return {
        "fewer steps at every batch size": bool((np.diff(steps, axis=0) < 0).all()),
        "a larger critical batch size": bool((np.diff(critical) > 0).all()),
    }


def levels() -> dict[str, float]:
    """Largest over smallest number of steps of p = 0 to 3/4, B = 4."""
    at_4 = {name: [curve(name, power).steps[0] for power in POWERS] for name in ("SGD", "EMA")}
    names = {"SGD": "SGD", "with averaging": "EMA"}
    return {shown: float(max(at_4[name]) / min(at_4[name])) for shown, name in names.items()}


def doublings() -> dict[str, float]:
    """What doubling the batch saves, at the smallest and the largest batch size, where it saves least and most."""
    steps = [curve(name).steps for name in METHODS]
    return {
        "first doubling, least": float(min(s[0] / s[1] for s in steps)),
        "last doubling, most": float(max(s[-2] / s[-1] for s in steps)),
    }


def beside_the_limit(method: HeavyBall | IterateAverage) -> dict[str, float]:
    """How far the variance term rises above its limit (0: nowhere), and how far from it it is after 10^7 steps."""
    steps = np.unique(np.geomspace(1, 1e7, 100).round())
    share = expected_risk(PROBLEM, method, steps).variance / theorem_bound(PROBLEM, method, steps).variance
    return {"above the limit": max(0.0, float(share.max()) - 1), "away from it in the end": float(share[-1]) - 1}


def bends() -> dict[str, float]:
    """SGD's critical batch size by target, from the asymptotes."""
    return {f"target {target:g}": critical_batch_size(curve("SGD", 0.0, target)) for target in (0.1, 0.01, 0.001)}


def saturation() -> dict[str, int]:
    """By p, the first batch size at which SGD's best learning rate is above half the limit."""
    limit = {power: 2 / PROBLEM.h[0] ** (1 - power) for power in POWERS}
    first = {power: np.argmax(curve("SGD", power).lr > limit[power] / 2) for power in POWERS}
    return {f"p = {power:g}": int(BATCH_SIZES[first[power]]) for power in POWERS}


def exponents() -> dict[str, float]:
    """By p, the exponent of B in SGD's best learning rate, from B = 4 to 64."""
    few = BATCH_SIZES <= 64
    log_b, log_lr = np.log(BATCH_SIZES[few]), {power: np.log(curve("SGD", power).lr[few]) for power in POWERS}
    return {f"p = {power:g}": float(np.polyfit(log_b, log_lr[power], 1)[0]) for power in POWERS}


def effective_rates() -> dict[str, float]:
    """Momentum's effective learning rate over SGD's rate."""
    return ends(curve("Momentum").effective_lr / curve("SGD").lr)


@lru_cache
def best_schedule(batch_size: int) -> np.ndarray:
    """The best piecewise constant learning rates, p = 0, (50,)."""
    return np.array(optimal_schedule(PROBLEM, batch_size, TARGET, PIECES).lrs)


def held(batch_size: int) -> int:
    """Pieces of it at the limit."""
    lrs = best_schedule(batch_size)
    return int((lrs > AT_THE_LIMIT * lrs.max()).sum())


def dives(batch_size: int) -> bool:
    """Whether, from the end of the hold on, each piece has a lower rate than the one before."""
    lrs = best_schedule(batch_size)
    after = lrs[np.argmax(lrs < AT_THE_LIMIT * lrs.max()) :]
    return bool((np.diff(after) < 0).all())


def closed(batch_size: int, pieces: int = 10) -> float:
    """The share of the gap between a constant rate and the lower bound that a schedule closes, p = 0."""
    bound = examples_lower_bound(PROBLEM, TARGET) / batch_size
    constant = steps_to_target(PROBLEM, SGD, [batch_size], TARGET).steps[0]
    best = optimal_schedule(PROBLEM, batch_size, TARGET, pieces).steps
    return float((constant - best) / (constant - bound))
