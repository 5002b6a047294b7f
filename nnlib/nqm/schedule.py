"""Which learning-rate schedule reaches the target in the fewest steps?

Paper: arXiv 1907.04164, section 3 (piecewise constant schedules). Chapter: book/nqm.ipynb.
"""

import math
from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from nnlib.nqm.bounds import check_target, small_batch_examples
from nnlib.nqm.methods import Schedule, check_power
from nnlib.nqm.problem import Array, NoisyQuadratic, Spectrum
from nnlib.nqm.risk import expected_risk
from nnlib.nqm.search.table import MOST_STEPS

SAVED = 4  # a guess to begin with: the best schedule needs a quarter of the examples of a constant small rate
FLATTEST, FARTHEST = -0.1, 2.0  # of secant steps in log k: how flat a slope is believed, and how far one goes
MOST_PIECES = 500  # the time grows with them, to twenty times that of 50
HELD = 1e-6  # of a log learning rate below the limit: held there
ABOVE_QUIET = 4.0  # in a log learning rate: a schedule begins far above the rate that it ends with
LOWEST = -40.0  # of a log learning rate: so small a rate does nothing in any run


def optimal_schedule(
    problem: NoisyQuadratic, batch_size: float, target: float, pieces: int = 50, power: float = 0.0
) -> Schedule:
    """The shortest piecewise constant schedule of the learning rate that brings the risk below a target.

    min k such that min over lr_1..lr_P of R(P k) < target, with k steps a piece (for k above a million to a millionth
    of it) and 0 < lr_j <= 2 / (max h^(1-p) + min h^(1-p)), the best constant learning rate without noise.

    The inner minimum is taken over log lr by L-BFGS-B with exact gradients; the outer one by secant steps on k.
    The risk is not convex in the learning rates: what is found is a local minimum, and no start tried gave a better
    one.

    Args:
        problem: NoisyQuadratic.
        batch_size: > 0; math.inf for no noise.
        target: risk to reach, in (0, problem.initial_risk).
        pieces: number of pieces P of equal length, from 1 to 500.
        power: power p of the preconditioner, in [0, 1].

    Returns:
        Schedule; its `.steps` are a multiple of `pieces`, and its exact risk at the end is below the target.

    Raises:
        ValueError: an argument out of range, or a target that takes more than 10^13 steps.

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import NoisyQuadratic
    >>> schedule = optimal_schedule(NoisyQuadratic(), batch_size=256, target=0.01, pieces=10)
    >>> bool(schedule.lrs[0] > 1.9), bool(schedule.lrs[-1] < 0.2)
    (True, True)
    """
    check_target(problem, target)
    check_power(power)
    if not batch_size > 0:
        raise ValueError(f"batch_size must be positive: got {batch_size}")
    if not isinstance(pieces, Integral) or isinstance(pieces, bool) or not 1 <= pieces <= MOST_PIECES:
        raise ValueError(f"pieces must be a whole number, from 1 to {MOST_PIECES}: got {pieces!r}")
    cap = 2 / (problem.h[0] ** (1 - power) + problem.h[-1] ** (1 - power))
    spectrum = problem.reduced
    goal = math.log(target)
    # The rate whose noise alone is half of the target: far above it the risk of small batches is flat, or worse.
    quiet = target * batch_size / (spectrum.noise * spectrum.h**-power).sum()
    rates = [rate] if (rate := math.log(quiet) + ABOVE_QUIET) < math.log(cap) - 1 else []
    solved: dict[int, _Best] = {}  # by steps per piece

    def solve(k: int) -> _Best:
        if k not in solved:
            starts = [np.full(pieces, rate) for rate in (math.log(cap) - 1, *rates)]
            if solved:  # the nearest, with the same lr k: but for what is held at the limit, the same run, only longer
                near_by = min(solved, key=lambda other: abs(math.log(other / k)))
                start = solved[near_by].log_lrs
                starts = [np.where(start < math.log(cap) - HELD, start + math.log(near_by / k), start)]
            found = [_best_lrs(spectrum, batch_size, k, power, math.log(cap), start) for start in starts]
            solved[k] = min(found, key=lambda best: best.value)
        return solved[k]

    def reached(k: int) -> Schedule | None:
        schedule = Schedule(tuple(np.exp(solve(k).log_lrs)), k, power)
        return schedule if expected_risk(problem, schedule, schedule.steps).at(batch_size) < target else None

    # Secant steps on log k from a guess, by the envelope theorem: the best lrs stay, only k moves.
    examples = small_batch_examples(spectrum, target, power)
    steps = max(examples / batch_size / SAVED, math.log(problem.initial_risk / target))
    if not steps <= MOST_STEPS:
        raise ValueError(f"target {target} takes more than {MOST_STEPS:.0e} steps at batch size {batch_size}")
    k = max(1, round(steps / pieces))
    low, high = 0, None  # known to be too few, known to be enough
    while high is None or high - low > near(high):
        value, slope, _ = solve(k)
        if value < goal:
            high = k
        else:
            low = k
        step = k * math.exp(np.clip((goal - value) / min(slope, FLATTEST), -FARTHEST, FARTHEST))
        k = math.floor(step) if value >= goal else math.ceil(step) - near(k)  # lands next to the crossing
        k = max(low + near(low), k if high is None else min(k, high - near(high)))
    # The few eigenvalues of the search may be wrong by some parts in a million: the whole spectrum decides. Of long
    # runs these are many steps: ever larger strides until there are enough, and back by halves.
    found, low, stride = reached(high), high - near(high), near(high)
    while found is None:
        low, high, stride = high, high + stride, 2 * stride
        found = reached(high)
    while high - low > near(high):
        k = (low + high) // 2
        if (schedule := reached(k)) is None:
            low = k
        else:
            high, found = k, schedule
    return found


def near(k: int) -> int:
    """How close to the fewest steps a piece one comes: one step, or a millionth of many."""
    return max(1, k // 10**6)


class _Best(NamedTuple):
    """The lowest log R with k steps a piece, its slope in log k, and the learning rates' logarithms, (P,)."""

    value: float
    slope: float
    log_lrs: Array


def _best_lrs(spectrum: Spectrum, batch_size: float, k: int, power: float, log_cap: float, start: Array) -> _Best:
    """Minimise log R(P k) over P log learning rates."""

    def log_risk(log_lrs: Array) -> tuple[float, Array]:
        return _log_risk(spectrum, batch_size, k, power, log_lrs)[:2]

    found = minimize(
        log_risk, np.minimum(start, log_cap), jac=True, method="L-BFGS-B", bounds=[(LOWEST, log_cap)] * len(start),
        options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-7, "maxcor": 20},
    )  # fmt: skip
    value, _, slope = _log_risk(spectrum, batch_size, k, power, found.x)
    return _Best(value, slope, found.x)


def _log_risk(
    spectrum: Spectrum, batch_size: float, k: int, power: float, log_lrs: Array
) -> tuple[float, Array, float]:
    """log R(P k), its gradient in the log learning rates, (P,), and its slope in log k, by one sweep back: O(P n).

    Piece j leaves, of the risk s_j of a mode, s_{j+1} = steady_j + left_j (s_j - steady_j), left = (1 - x)^2k.
    """
    rates = spectrum.h ** (1 - power)
    noise = spectrum.noise * spectrum.h**-power / batch_size
    lrs = np.exp(log_lrs)[:, None]
    x = lrs * rates  # (P, n)
    log_left = 2 * np.log(np.maximum(np.abs(1 - x), 1e-300))  # x = 1 forgets in one step
    left = np.exp(k * log_left)
    steady = lrs * noise / (2 - x)
    s = np.empty((len(lrs) + 1, rates.size))
    s[0] = spectrum.initial
    for j in range(len(lrs)):
        s[j + 1] = steady[j] + left[j] * (s[j] - steady[j])
    after = np.cumprod(left[::-1], axis=0)[::-1]  # how much of s_j is left at the end
    adjoint = np.append(after[1:], np.ones((1, rates.size)), axis=0)  # dR / ds_{j+1}
    risk = s[-1].sum()
    safe = np.where(np.abs(1 - x) < 1e-150, 1e-150, 1 - x)
    change_left = -2 * k * x * left / safe  # d left / d log lr
    change_steady = 2 * steady / (2 - x)  # d steady / d log lr
    gap = s[:-1] - steady
    gradient = (adjoint * ((1 - left) * change_steady + gap * change_left)).sum(axis=1)
    slope = (adjoint * gap * k * log_left * left).sum() / risk
    return math.log(risk), gradient / risk, slope
