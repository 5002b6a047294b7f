"""How many whole steps are enough, and are fewer? On the few eigenvalues that stand for all.

Chapter: book/nqm.ipynb.
"""

import numpy as np

from nnlib.nqm.methods import HeavyBall
from nnlib.nqm.problem import Array
from nnlib.nqm.search.landscape import Landscape
from nnlib.nqm.search.parabola import descend
from nnlib.nqm.search.ripples import everywhere, nearby

RETUNE = 0.005  # size of the star that follows the optimum from one number of steps to the next
TURNS = 4  # of Newton's steps towards the whole number
MANY = 2000  # steps above which Newton's may also go back: below, `shorten` does so one by one, and misses nothing
FARTHEST = 0.1  # in log t, of a step of Newton's
JUST_BELOW = 1 - 1e-12  # rounding must not turn a whole number into the next one
LATE = 500  # where these steps are not enough, a 500th more are tried next, at least one
TRIES = 200  # of that: 1.002^200 is half as many steps again
FEWER = 30  # steps that are taken off at most; where none are, up to 8 % more
VERY_SHORT, SHORT = 64, 400  # steps up to which the heavy ball is searched everywhere, and around what is good already


def settle(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """A whole number of steps that is enough, and points tuned for it: (n, axes), (n,)."""
    few, at = landscape.problem.compressed, landscape.coordinates
    steps = np.maximum(np.ceil(np.exp(log_t)), 1)
    slope, each = landscape.slope(points, log_t, batch_sizes), np.arange(steps.size)
    for _ in range(TURNS):
        value = landscape.at(few, points, np.log(steps), batch_sizes)
        shift = (landscape.goal - value) / slope
        shift = np.where((steps > MANY) | (shift > 0), np.clip(shift, -FARTHEST, FARTHEST), 0)
        before, steps = steps, np.maximum(np.ceil(steps * np.exp(shift) * JUST_BELOW), 1)
        if landscape.kind is HeavyBall:  # its phases must stay
            points = at.clip(at.stretch(points, np.log(steps / before)), np.log(steps))
        points = retune(landscape, points, steps, batch_sizes)
    for _ in range(TRIES):
        value = landscape.at(few, points, np.log(steps), batch_sizes)
        late = each[value >= landscape.goal]
        if not late.size:
            break
        steps[late] += np.maximum(1, steps[late] // LATE)
        points[late] = retune(landscape, points[late], steps[late], batch_sizes[late])
    return points, steps


def shorten(landscape: Landscape, points: Array, steps: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """One step less at a time, with hyperparameters tuned for it, as long as that will do.

    Short runs of the heavy ball are searched everywhere, not only near: their risk has no valley to follow.
    """
    few, goal = landscape.problem.compressed, landscape.goal
    points, steps = points.copy(), steps.copy()
    early = np.flatnonzero(steps > 1)
    for _ in range(FEWER):
        if not early.size:
            break
        t, batches = steps[early] - 1, batch_sizes[early]
        log_t = np.log(t)
        tuned = retune(landscape, points[early], t, batches, rounds=2)
        better = landscape.at(few, tuned, log_t, batches) < goal
        stuck = ~better & (landscape.kind is HeavyBall)
        if (part := stuck & (t <= VERY_SHORT)).any():
            tuned[part] = everywhere(landscape, log_t[part], batches[part])
        if (part := stuck & (VERY_SHORT < t) & (t <= SHORT)).any():
            tuned[part] = nearby(landscape, tuned[part], log_t[part], batches[part])
        better = landscape.at(few, tuned, log_t, batches) < goal
        early = early[better]
        points[early], steps[early] = tuned[better], t[better]
        early = early[steps[early] > 1]
    return points, steps


def retune(landscape: Landscape, points: Array, steps: Array, batch_sizes: Array, rounds: int = 1) -> Array:
    """Downhill near points that are good already, at whole steps."""
    size = np.full(steps.size, RETUNE)
    return descend(landscape, landscape.problem.compressed, points, np.log(steps), batch_sizes, size, rounds)[0]
