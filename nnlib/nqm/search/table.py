"""Where does a search begin? One coarse table over times and hyperparameters, which serves every batch size.

Bias and variance do not depend on the batch size, so that hyperparameters are below the target at step t for every
batch size above

    B_min = variance(t) / (target - bias(t))        (infinite while the bias alone exceeds the target).

Chapter: book/nqm.ipynb.
"""

import math

import numpy as np

from nnlib.nqm.methods import HeavyBall
from nnlib.nqm.problem import Array
from nnlib.nqm.risk import total_risk
from nnlib.nqm.search.landscape import BLUR, Landscape

MOST_STEPS = 10**13  # float64 closed forms still tell two neighbouring steps apart here
TIMES = 8  # of the table, to a factor of ten in t
MEMORIES, RATES = 7, 28  # of the table at each time: a valley is a few cells wide
BASINS = 3  # short, middle and long memory: the risk has several valleys, and the table does not tell which is deeper
LONGER = 3  # so many times longer is the next table where the last one was too short
LOWEST = 4.0  # in log lr, how far the table goes below the rate at which the steepest direction is done in t steps
ABOVE, EDGE = 0.3, 10.0  # so many rates, as a share of the others, lie between half the limit and 1 - exp(-10) of it


def start(landscape: Landscape, batch_sizes: Array, longest: float) -> tuple[Array, Array]:
    """The first entry of the table that will do, by basin and batch size.

    Args:
        landscape: what is searched.
        batch_sizes: (n,).
        longest: steps to which the table goes; if that is not enough, it is made longer.

    Returns:
        Points (basins, n, axes) and log steps (basins, n).

    Raises:
        ValueError: where 10^13 steps are not enough.
    """
    while True:
        t, points, needed = table(landscape, longest)
        reached = np.minimum.accumulate(needed.min(axis=(1, 2)))
        if (reached[-1] <= batch_sizes.min() and reached[-1] < np.inf) or longest > MOST_STEPS:
            break
        longest *= LONGER
    if longest > MOST_STEPS:
        least = f"target = {landscape.target} takes more than {MOST_STEPS:.0e} steps at batch size"
        raise ValueError(f"{least} {batch_sizes.min():g}, the smallest of batch_sizes")
    axes, starts, log_ts = landscape.coordinates.axes, [], []
    for basin in np.array_split(np.arange(needed.shape[1]), 1 if axes == 1 else BASINS):
        part = needed[:, basin].reshape(t.size, -1)
        best = part.argmin(axis=1)
        envelope = np.minimum.accumulate(part.min(axis=1))  # smallest batch size that is done by step t
        never = np.isinf(envelope)[:, None]  # not even without noise
        first = np.minimum((never | (envelope[:, None] > batch_sizes)).sum(axis=0), t.size - 1)
        starts.append(points[:, basin].reshape(t.size, -1, axes)[first, best[first]])
        log_ts.append(np.log(t[first]))
    return np.stack(starts), np.stack(log_ts)


def table(landscape: Landscape, longest: float) -> tuple[Array, Array, Array]:
    """Times (T,), points (T, memories, rates, axes) and the smallest batch size of each, B_min, on the sketch."""
    t = np.unique(np.round(np.geomspace(1, longest, 2 + int(TIMES * np.log10(longest)))))
    points = grid(landscape, np.log(t), MEMORIES, RATES)
    lr, extra = landscape.coordinates.hyperparameters(points)
    sketch, t_each = landscape.problem.sketch, t[:, None, None]
    bias, variance = total_risk(sketch, landscape.kind, lr, extra, landscape.power, t_each, BLUR)
    room = landscape.target - bias
    return t, points, np.where(room > 0, variance / np.where(room > 0, room, 1), np.inf)


def grid(landscape: Landscape, log_t: Array, memories: int, rates: int) -> Array:
    """Points (n, memories, rates, axes) over all that can be useful in runs of t steps, (n,).

    Memories are even in the logarithm from none to twice the run. For each, rates go from tiny to half the limit, and
    on to its edge.
    """
    log_t = log_t[:, None, None]
    axes = landscape.coordinates.axes
    memory = np.linspace(0, 1, 1 if axes == 1 else memories)[:, None] * (log_t + math.log(2))
    done = math.log(min(1.0, math.log(landscape.problem.initial_risk / landscape.target)))  # log of such an lr t
    low = done - log_t - LOWEST
    share = np.linspace(0, 1 + ABOVE, rates)
    below, above = np.minimum(share, 1), np.maximum(share - 1, 0) / ABOVE
    ridge = memory if landscape.kind is HeavyBall else 0 * memory  # z of half the limit
    z = low * (1 - below) + ridge * below + EDGE * above**1.5
    return np.stack(np.broadcast_arrays(z, memory), axis=-1)[..., :axes]
