"""Where, on its valley, is the heavy ball at its best? Oscillating modes draw ripples on it, which are searched.

The bias of an oscillating mode goes as cos²(t sqrt(lr h) + ...): a run that ends where the modes that matter pass
through zero is done earlier. There are many such points, about as good, and none is seen from another. So each batch
size tries many points of its valley, evenly spread, goes downhill from the best of them, and then tries what all the
others have found.

How much it is worth was measured on the chapter's curves, 19 batch sizes at three powers: without `search` runs are up
to 0.3 % longer, without `nearby` those of up to 400 steps up to 2.6 %. What is left is of this size, too: with other
efforts a run on the floor comes out 0.5 % shorter here and 1 % longer there. Chapter: book/nqm.ipynb.
"""

import math
from typing import NamedTuple

import numpy as np

from nnlib.nqm.methods import HeavyBall
from nnlib.nqm.problem import Array, Spectrum
from nnlib.nqm.search.landscape import BLUR, Landscape
from nnlib.nqm.search.parabola import descend
from nnlib.nqm.search.table import grid
from nnlib.nqm.search.valley import borrow


class Effort(NamedTuple):
    """How many points are tried, and from how many of the best of them one goes downhill."""

    starts: int
    keep: int


LONG = math.log(2000)  # log steps from which the ripples look alike at all batch sizes, so that one finds for all
# For all batch sizes with long runs together, and with short ones. A quarter of the first finds the same on the
# chapter's curves: it is meant for harder targets. Half of the second costs up to 1.3 % of the steps.
TOGETHER, ALONE = Effort(240, 80), Effort(2048, 48)
LEAST = Effort(12, 4)  # for each batch size, however many there are
TURNS = 3  # of a search: what a turn finds tells the next at which t to look
ACROSS, LOOKS = 0.03, 9  # in z: how far to both sides of a point ripples are looked for, and at how many points
ROUGH, ROUGH_SHORT = 5e-4, 0.3  # ripples matter that save this share of the steps, or this part of a single step
STABLE = 3.0  # z - y beyond which lr is within 5 % of the limit, so that z says little
RIPPLE = 0.006  # size of the first star: small beside a ripple
LARGEST_SHIFT = 0.2  # in log t, between two turns
# The additive recurrence of lowest discrepancy in two dimensions: 1/r and 1/r², where r³ = r + 1.
RECURRENCE = np.array([0.7548776662, 0.5698402910])
NEAR, FAR = 0.2, 0.5  # widths, in z and y, of the two boxes in which points are spread
WIDEST = 1.2  # z - y at which the boxes stop to grow in z
WHOLE_GRID = 14, 40  # memories and rates of the grid that a very short run is searched on
NEARBY = 1024, 256  # starts around a short run: for all batch sizes together, and at least for each; a quarter: 1.2 %
FOLLOWED = 6  # points from which one goes downhill there; with two, up to 3.8 % more steps


def rough(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> np.ndarray:
    """Where ripples matter at points (n, axes) of the valley: they save more steps than can be neglected, (n,)."""
    if landscape.kind is not HeavyBall:
        return np.zeros(log_t.size, dtype=bool)
    near = points[:, None] + np.linspace(-ACROSS, ACROSS, LOOKS)[:, None] * [1.0, 0.0]
    few = landscape.problem.compressed
    exact, smooth = (landscape.log_risk(few, near, log_t, batch_sizes, blur) for blur in (0, BLUR))
    gain = np.ptp(exact - smooth, axis=1) / -landscape.slope(points, log_t, batch_sizes)  # in log t
    return gain > np.maximum(ROUGH, ROUGH_SHORT * np.exp(-log_t))


def search(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """Fewer steps for points of the heavy ball's valley: long runs together, short ones each for itself."""
    points, log_t = points.copy(), log_t.copy()
    long = log_t > LONG
    for part, effort in ((long, TOGETHER), (~long, ALONE)):
        if n := int(np.count_nonzero(part)):
            each = Effort(*(max(total // n, least) for total, least in zip(effort, LEAST, strict=True)))
            points[part], log_t[part] = _search(landscape, points[part], log_t[part], batch_sizes[part], each)
    return points, log_t


def _search(
    landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array, effort: Effort
) -> tuple[Array, Array]:
    """At a fixed whole t, the best ripple; the slope of the valley then tells at which t it would meet the target."""
    spectrum, at, n = landscape.problem.reduced, landscape.coordinates, log_t.size
    centre, best = points.copy(), points
    centre[:, 0] = np.minimum(centre[:, 0], centre[:, 1] + STABLE)
    reached, reached_at = points.copy(), np.full(n, np.inf)  # fewest steps so far, and where
    for turn in range(TURNS):
        steps = np.maximum(np.round(np.exp(log_t)), 1)
        steps = np.where(steps >= reached_at, np.maximum(reached_at - 1, 1), steps)
        centre = at.stretch(centre, np.log(steps) - log_t)
        log_t = np.log(steps)
        number = np.arange(turn * n * effort.starts, (turn + 1) * n * effort.starts)
        tried = around(landscape, centre, log_t, number.reshape(n, effort.starts))
        tried[:, 0] = best
        best = _best_of(landscape, spectrum, tried, log_t, batch_sizes, effort.keep, RIPPLE, rounds=3)
        best, values = borrow(landscape, spectrum, best, log_t, batch_sizes)
        better = (values < landscape.goal) & (steps < reached_at)
        reached[better], reached_at[better] = best[better], steps[better]
        shift = (landscape.goal - values) / landscape.slope(centre, log_t, batch_sizes)
        shift = np.maximum(np.clip(shift, -LARGEST_SHIFT, LARGEST_SHIFT), -log_t)
        log_t = log_t + shift
        centre, best = at.stretch(centre, shift), at.stretch(best, shift)
    found = np.isfinite(reached_at) & (np.exp(log_t) > reached_at - 1)
    log_t[found], best[found] = np.log(reached_at[found]), reached[found]
    return at.clip(best, log_t), log_t


def everywhere(landscape: Landscape, log_t: Array, batch_sizes: Array) -> Array:
    """The best points of the heavy ball at fixed times, of all that there are, (n, 2)."""
    tried = grid(landscape, log_t, *WHOLE_GRID).reshape(log_t.size, -1, 2)
    spectrum = landscape.problem.reduced
    return _best_of(landscape, spectrum, tried, log_t, batch_sizes, FOLLOWED, 0.1, rounds=4)


def nearby(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> Array:
    """The best points of the heavy ball at fixed times around points, (n, 2)."""
    n, (all_, each) = log_t.size, NEARBY
    starts = max(each, all_ // n)
    tried = around(landscape, points, log_t, np.arange(n * starts).reshape(n, starts))
    spectrum = landscape.problem.reduced
    return _best_of(landscape, spectrum, tried, log_t, batch_sizes, FOLLOWED, RIPPLE, rounds=4)


def around(landscape: Landscape, points: Array, log_t: Array, number: np.ndarray) -> Array:
    """Points (n, k, 2) spread evenly, without chance, by their numbers (n, k): half near, half further."""
    box = number[..., None] * RECURRENCE % 1 - 0.5
    box *= np.where(number % 2, NEAR, FAR)[..., None]
    wide = 1 + np.exp(np.minimum(points[:, 0] - points[:, 1], WIDEST))  # dz / d log lr: z creeps near the limit
    spread = box * np.stack([wide, np.ones_like(wide)], axis=-1)[:, None]
    return landscape.coordinates.clip(points[:, None] + spread, log_t[:, None])


def _best_of(
    landscape: Landscape,
    spectrum: Spectrum,
    tried: Array,
    log_t: Array,
    batch_sizes: Array,
    keep: int,
    size: float,
    rounds: int,
) -> Array:
    """Go downhill from the best `keep` of the points tried, (n, k, 2), and take the lowest, (n, 2)."""
    n = log_t.size
    order = landscape.log_risk(spectrum, tried, log_t, batch_sizes).argsort(axis=1)[:, :keep]
    tried = np.take_along_axis(tried, order[..., None], axis=1)
    runs = np.repeat(log_t, keep), np.repeat(batch_sizes, keep), np.full(n * keep, size)
    tried = descend(landscape, spectrum, tried.reshape(-1, 2), *runs, rounds)[0].reshape(n, keep, 2)
    return tried[np.arange(n), landscape.log_risk(spectrum, tried, log_t, batch_sizes).argmin(axis=1)]
