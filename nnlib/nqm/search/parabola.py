"""How does one go downhill where only values are known? A parabola through a star of points, and to its minimum.

Chapter: book/nqm.ipynb.
"""

import numpy as np

from nnlib.nqm.problem import Array, Spectrum
from nnlib.nqm.search.landscape import Landscape

FURTHEST = 2.0  # points of the star that one may go: a parabola says little about what lies beyond
NARROWEST = 1e-3  # the smallest curvature, as a share of the largest: along a straight valley the parabola is flat
NONZERO = 1e-12  # a curvature where there is none at all
# The next star: smaller where the minimum lies inside, and larger where it lies outside of this one.
INSIDE, OUTSIDE = 0.5, 1.5
SHRINK, HOLD, GROW = 0.3, 0.7, 1.2


def descend(
    landscape: Landscape,
    spectrum: Spectrum,
    points: Array,
    log_t: Array,
    batch_sizes: Array,
    size: Array,
    rounds: int,
) -> tuple[Array, Array]:
    """Go down log R at fixed times: fit a parabola on a star, try its minimum, keep the best, shrink the star.

    Args:
        landscape: what to go down.
        spectrum: the eigenvalues to do it on.
        points: where to start, (m, axes).
        log_t: log steps, (m,).
        batch_sizes: (m,).
        size: distance of the star's points from its middle, (m,).
        rounds: number of stars.

    Returns:
        The points reached, none worse than its start, and the sizes that came last.
    """
    axes = landscape.coordinates.axes
    star = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * axes, indexing="ij"), -1).reshape(-1, axes)  # (3^axes, axes)
    for _ in range(rounds):
        around = landscape.coordinates.clip(points[:, None] + size[:, None, None] * star, log_t[:, None])
        values = landscape.log_risk(spectrum, around, log_t, batch_sizes)  # (m, 3^axes)
        jump = minimum(values.reshape(-1, *[3] * axes))  # (m, axes), in units of the star
        target = landscape.coordinates.clip(points + size[:, None] * jump, log_t)
        at_target = landscape.log_risk(spectrum, target[:, None], log_t, batch_sizes)
        values, around = np.append(values, at_target, 1), np.append(around, target[:, None], 1)
        points = around[np.arange(log_t.size), values.argmin(axis=1)]
        length = np.abs(jump).max(axis=1)
        size = size * np.where(length < INSIDE, SHRINK, np.where(length < OUTSIDE, HOLD, GROW))
    return points, size


def minimum(values: Array) -> Array:
    """The minimum of the parabola through values on {-1, 0, 1}^axes, (m, 3) or (m, 3, 3): -H^-1 g, at most 2 away.

    With central differences g and H; where the parabola has no minimum, one of its curvatures is turned upwards, in
    one dimension, or raised by the same amount as the other, in two.

    Returns:
        (m, 1) or (m, 2).

    >>> minimum(np.array([[4.0, 1.0, 0.0]])).tolist()  # (x - 1)^2
    [[1.0]]
    """
    if values.ndim == 2:
        g = (values[:, 2] - values[:, 0]) / 2
        h = values[:, 2] + values[:, 0] - 2 * values[:, 1]
        h = np.maximum(np.abs(h), NONZERO)
        return np.clip(-g / h, -FURTHEST, FURTHEST)[:, None]
    middle = values[:, 1, 1]
    # H = [[a, c], [c, b]] with the eigenvalues (a + b)/2 -+ radius.
    a = values[:, 2, 1] + values[:, 0, 1] - 2 * middle
    b = values[:, 1, 2] + values[:, 1, 0] - 2 * middle
    c = (values[:, 2, 2] - values[:, 2, 0] - values[:, 0, 2] + values[:, 0, 0]) / 4
    g = np.stack([values[:, 2, 1] - values[:, 0, 1], values[:, 1, 2] - values[:, 1, 0]], axis=-1) / 2
    radius = np.sqrt((a - b) ** 2 / 4 + c**2)
    smallest, largest = (a + b) / 2 - radius, np.abs(a + b) / 2 + radius
    shift = np.maximum(0, NARROWEST * largest - smallest) + NONZERO
    a, b = a + shift, b + shift
    step = -np.stack([b * g[:, 0] - c * g[:, 1], a * g[:, 1] - c * g[:, 0]], axis=-1)
    step /= (a * b - c**2)[:, None]
    return step / np.maximum(1, np.abs(step).max(axis=1, keepdims=True) / FURTHEST)
