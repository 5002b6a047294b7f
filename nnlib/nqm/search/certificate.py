"""Is it true of the whole spectrum? Below the target at t steps, and not at t - 1.

Chapter: book/nqm.ipynb.
"""

import itertools

import numpy as np

from nnlib.nqm.problem import Array
from nnlib.nqm.search.landscape import Landscape
from nnlib.nqm.search.whole import retune

TRIES = 100
PATIENT = 4  # tries in which Newton's step, or a single one, is trusted; then a 500th of the run is added, too
LATE = 500


def inherit(points: Array, steps: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """What reaches the target with a batch also does with a larger one, whose noise is less."""
    points, steps = points.copy(), steps.copy()
    order = np.argsort(batch_sizes, kind="stable")
    for before, after in itertools.pairwise(order):
        if steps[before] < steps[after]:
            steps[after], points[after] = steps[before], points[before]
    return points, steps


def enough(landscape: Landscape, points: Array, steps: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """More steps where those found on few eigenvalues are not enough on all, with points tuned for them."""
    at, points, steps = landscape.coordinates, points.copy(), steps.copy()
    slope = landscape.slope(points, np.log(steps), batch_sizes)
    for attempt in range(TRIES):
        excess = landscape.exact(points, steps, batch_sizes) - landscape.goal
        late = np.flatnonzero(excess >= 0)
        if not late.size:
            break
        t = steps[late]
        least = 1 if attempt < PATIENT else 1 + t // LATE
        more = np.maximum(np.floor(t * excess[late] / -slope[late]), least)
        stretched = at.stretch(points[late], np.log1p(more / t))  # log((t + more) / t)
        steps[late] = t + more
        points[late] = retune(landscape, at.clip(stretched, np.log(t + more)), t + more, batch_sizes[late])
    return points, steps


def earliest(landscape: Landscape, points: Array, steps: Array, batch_sizes: Array) -> Array:
    """From steps that are enough back to the last crossing of the target: ever larger strides, then halves."""
    done, open_until, stride = steps.copy(), np.zeros_like(steps), 1  # below the target, and not
    while (left := np.flatnonzero((open_until == 0) & (done > 1))).size:
        t = np.maximum(done[left] - stride, 1)
        below = landscape.exact(points[left], t, batch_sizes[left]) < landscape.goal
        done[left[below]], open_until[left[~below]] = t[below], t[~below]
        stride *= 2
    while (left := np.flatnonzero(done - open_until > 1)).size:
        t = (done[left] + open_until[left]) // 2
        below = landscape.exact(points[left], t, batch_sizes[left]) < landscape.goal
        done[left[below]], open_until[left[~below]] = t[below], t[~below]
    return done
