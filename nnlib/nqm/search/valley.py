"""How does a search follow the valley? In turns: downhill at a fixed time, then to the time at which the target is met.

With few steps to go the risk is too high at every point, with many the target is met by a whole region; the fewest
steps are where the lowest point of the landscape just touches the target. Chapter: book/nqm.ipynb.
"""

import numpy as np

from nnlib.nqm.problem import Array, Spectrum
from nnlib.nqm.search.landscape import Landscape
from nnlib.nqm.search.parabola import descend

COARSE, FINE = 0.5, 0.1  # sizes of the first star: a cell of the table, and what the sketch is wrong by
TURNS = {1: 3, 2: 5}  # by number of axes
FARTHEST = 0.5  # in log t, of a step of Newton's: the slope is a local one


def lowest_basin(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """The basin of fewest steps, on the sketch, which smooths.

    Args:
        landscape: what is searched.
        points: where to start in each basin, (basins, n, axes).
        log_t: log steps to start with, (basins, n).
        batch_sizes: (n,).

    Returns:
        Points (n, axes) and log steps (n,).
    """
    sketch, axes = landscape.problem.sketch, landscape.coordinates.axes
    basins, n = log_t.shape
    points, log_t, batches = points.reshape(-1, axes), log_t.ravel(), np.tile(batch_sizes, basins)
    size = np.full(log_t.size, COARSE)
    for _ in range(TURNS[axes]):
        points, size = descend(landscape, sketch, points, log_t, batches, size, rounds=2)
        for basin in np.arange(log_t.size).reshape(basins, n):
            points[basin], _ = borrow(landscape, sketch, points[basin], log_t[basin], batch_sizes)
        log_t = meet(landscape, sketch, points, log_t, batches)
    best = log_t.reshape(basins, n).argmin(axis=0) * n + np.arange(n)
    return points[best], log_t[best]


def polish(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """The same without smoothing, on more and more eigenvalues, where the landscape has no ripples."""
    size = np.full(log_t.size, FINE)
    for spectrum in [landscape.problem.reduced] * 3 + [landscape.problem.compressed] * 2:
        log_t = meet(landscape, spectrum, points, log_t, batch_sizes)
        points, size = descend(landscape, spectrum, points, log_t, batch_sizes, size, rounds=2)
    return points, log_t


def meet(landscape: Landscape, spectrum: Spectrum, points: Array, log_t: Array, batch_sizes: Array) -> Array:
    """Two Newton steps in log t towards log R = log target; t >= 1."""
    for _ in range(2):
        excess = landscape.at(spectrum, points, log_t, batch_sizes) - landscape.goal
        step = excess / landscape.slope(points, log_t, batch_sizes)
        log_t = np.maximum(log_t - np.clip(step, -FARTHEST, FARTHEST), 0)
    return log_t


def borrow(
    landscape: Landscape, spectrum: Spectrum, points: Array, log_t: Array, batch_sizes: Array
) -> tuple[Array, Array]:
    """For each batch size the best of what all have found, stretched to its own run, and log R there: (n, axes), (n,).

    Where batches are small, the same lr t and (1 - momentum) t are best at all of them.
    """
    at = landscape.coordinates
    stretched = at.clip(at.stretch(points, log_t[:, None] - log_t), log_t[:, None])  # (asking, asked, axes)
    values = landscape.log_risk(spectrum, stretched, log_t, batch_sizes)
    return stretched[np.arange(log_t.size), values.argmin(axis=1)], values.min(axis=1)
