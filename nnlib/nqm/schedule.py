"""Which learning-rate schedule reaches the target in the fewest steps?

Paper: arXiv 1907.04164, section 3 (piecewise constant schedules). Chapter: book/nqm.ipynb.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq

from nnlib.arguments import typed, whole, within
from nnlib.nqm.bounds import small_batch_examples
from nnlib.nqm.checks import check_batch_size, check_target
from nnlib.nqm.methods import Schedule
from nnlib.nqm.problem import NoisyQuadratic, Spectrum, compress
from nnlib.nqm.rates import BestRates, finer, log_risk
from nnlib.nqm.risk import expected_risk, log_kept_by_sgd
from nnlib.nqm.search.landscape import LEAST_RISK
from nnlib.nqm.search.table import MOST_STEPS

SAVED = 4  # a guess to begin with: the best schedule needs a quarter of the examples of a constant small rate
ABOVE_QUIET = 4.0  # in a log learning rate: a schedule begins far above the rate that it ends with
MOST_PIECES = 200
FEW, FINER = 4, 3  # a search begins with so few pieces at most, and goes on with so many times more
BELOW = 1e-12  # of the limit of stability: no rate comes nearer, lest rounding puts it there
MOST_WORK = 4_000_000  # of tuning, ten times what a usual schedule takes, in evaluations x pieces x modes
FARTHEST = 2.0  # of Newton's steps in log k
PATIENT = 4  # of Newton's steps between two numbers; then the distance is halved, step by step


@typed
def optimal_schedule(
    problem: NoisyQuadratic, batch_size: float, target: float, pieces: int = 50, power: float = 0.0
) -> Schedule:
    """The shortest piecewise constant schedule of the learning rate that brings the risk below a target.

    min k such that min over lr_1..lr_P of R(P k) < target, with k steps a piece (for k above a million to a millionth
    of it) and 0 < lr_j <= 2 / (max h^(1-p) + min h^(1-p)), the best constant learning rate without noise.

    The inner minimum is taken over log lr by L-BFGS-B with exact gradients, first of few pieces, then of more and more,
    each time from the one before; the outer one by Newton's steps on k. The risk is not convex in the learning rates:
    what is found is a local minimum. No start tried gave a better one but where noise is in steep directions alone
    (noise_exponent 2 and above): there rates jump from the limit far down, and up to a few per cent may be hidden.
    The work ends: no input takes more than twenty times that of the default problem at batch size 256.

    Args:
        problem: NoisyQuadratic.
        batch_size: > 0; math.inf for no noise.
        target: risk to reach, from 1e-20 to 1 - 1e-6 of problem.initial_risk.
        pieces: number of pieces P of equal length, from 1 to 200; more than that save less than 0.3 % of the steps.
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
    check_batch_size(batch_size)
    within("[0, 1]", power=power)
    whole(1, MOST_PIECES, pieces=pieces)
    fast, slow = problem.h[0] ** (1 - power), problem.h[-1] ** (1 - power)
    log_cap = math.log(2 / (fast + max(slow, BELOW * fast)))
    few, goal = problem.reduced, math.log(target)
    # A guess of the steps: a share of the examples that a small rate needs, or what slow modes need without noise.
    noiseless = _fewest_without_noise(few, target, power, math.exp(log_cap))
    t = max(pieces, small_batch_examples(few, target, power) / batch_size / SAVED, noiseless)
    if not t <= MOST_STEPS:
        raise ValueError(f"target = {target} takes more than {MOST_STEPS:.0e} steps at batch_size = {batch_size}")
    # The rate whose noise alone is half of the target: far above it the risk of small batches is flat, or worse.
    quiet = goal + math.log(batch_size) - math.log((few.noise * few.h**-power).sum()) + ABOVE_QUIET
    rates = [log_cap - 1, quiet] if quiet < log_cap - 1 else [log_cap - 1]

    best, t = _few_to_many((few, batch_size, power, log_cap), rates, pieces, t, goal)
    judge = compress(problem.spectrum, head=128, density=40)  # 480 of 10,000 eigenvalues: good to 1e-7, mostly

    def judged(k: int) -> tuple[float, float]:
        value, _, slope = log_risk(judge, batch_size, power, k, best(k).log_lrs)
        return value - goal, slope

    def schedule(k: int) -> Schedule:
        return Schedule(tuple(np.exp(best(k).log_lrs)), k, power)

    def exact(k: int) -> tuple[float, float]:
        risk = expected_risk(problem, schedule(k), k * pieces).at(batch_size)
        return math.log(max(risk, LEAST_RISK)) - goal, best(k).slope

    most = MOST_STEPS // pieces
    k = _fewest(judged, max(1, round(t / pieces)), near, most)
    return schedule(_fewest(exact, k, near, most, k - near(k)))


def _few_to_many(
    asked: tuple[Spectrum, float, float, float], rates: Sequence[float], pieces: int, t: float, goal: float
) -> tuple[BestRates, float]:
    """Where to begin: rates for all the pieces, and steps T, from those for few pieces, which are quickly found."""
    counts = [pieces]
    while counts[0] > FEW:
        counts.insert(0, math.ceil(counts[0] / FINER))
    best = BestRates(*asked, [np.full(counts[0], rate) for rate in rates], MOST_WORK)
    if len(counts) == 1:
        return best, t

    def above(t: int) -> tuple[float, float]:
        value, slope, _ = best(t / counts[0])
        return value - goal, slope

    t = _fewest(above, round(t), lambda t: max(1, t // 100), MOST_STEPS, pieces - 1)  # to a hundredth
    for before, count in itertools.pairwise(counts):  # then by one step of Newton's for each count
        k, (value, slope, _) = t / before, best(t / before)
        t = max(pieces, t * math.exp(_newton(value - goal, slope)))
        best = BestRates(*asked, [finer(best.stretched(k, t / before), count)], best.work)
    return best, t


def _fewest_without_noise(spectrum: Spectrum, target: float, power: float, cap: float) -> float:
    """Steps that no learning rates up to the largest, and no batch size, can do without: slow modes keep (1-x)^2t."""
    x = cap * spectrum.h ** (1 - power)
    slow = x < 1
    log_kept, initial = log_kept_by_sgd(x[slow]), spectrum.initial[slow]

    def excess(log_t: float) -> float:
        return (initial * np.exp(math.exp(log_t) * log_kept)).sum() - target

    if initial.sum() <= target or excess(0.0) <= 0:
        return 1.0
    far = math.log(MOST_STEPS) + 1
    return math.inf if excess(far) > 0 else math.exp(brentq(excess, 0.0, far))


def _fewest(
    at: Callable[[int], tuple[float, float]], k: int, near: Callable[[int], int], most: int, too_few: int = 0
) -> int:
    """The fewest steps k that are enough, to a distance: Newton's steps on log R over log k, inside of a bracket.

    Args:
        at: of k: by how much log R is above its goal, and its slope over log k.
        k: where to begin.
        near: of k: the distance, at least 1.
        most: the largest k.
        too_few: known not to be enough.

    Raises:
        ValueError: where so many are not enough.
    """
    low, high, enough, stride, between = too_few, None, None, 1, 0
    while high is None or high - low > near(high):
        excess, slope = at(k)
        before, enough = enough, excess < 0
        low, high = (low, k) if enough else (k, high)
        stride = 2 * stride if enough == before else 1  # so that no far crossing is crept up to
        between += high is not None and low > too_few  # two numbers that were looked at
        aim = k * math.exp(_newton(excess, slope))  # the crossing: the next number lies next to it
        if high is not None and between > PATIENT:
            k = round(math.sqrt(low * high))
        elif enough:
            least = k * math.exp(-FARTHEST)
            k = max(min(math.ceil(aim) - near(k) // 2 - 1, k - stride * near(k)), math.ceil(least))
        else:
            k = max(math.floor(aim), k + stride * near(k))
        k = max(k, low + near(low)) if high is None else min(max(k, low + near(low)), high - near(high))
        if k > most:
            raise ValueError(f"target takes more than {MOST_STEPS:.0e} steps at this batch_size")
    return high


def _newton(excess: float, slope: float) -> float:
    """How far the crossing is in log k, were log R straight there."""
    if not slope < 0:  # rounding, where all that can be gained is tiny
        return math.copysign(FARTHEST, excess)
    return min(max(-excess / slope, -FARTHEST), FARTHEST)


def near(k: int) -> int:
    """How close to the fewest steps a piece one comes: one step, or a millionth of many."""
    return max(1, k // 10**6)
