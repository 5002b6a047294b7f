"""The search from its start to its end: fewest steps to a target, and the hyperparameters that need no more.

Chapter: book/nqm.ipynb.
"""

from typing import NamedTuple

import numpy as np

from nnlib.nqm.bounds import small_batch_examples
from nnlib.nqm.methods import SGD, HeavyBall, Tunable
from nnlib.nqm.problem import Array, NoisyQuadratic
from nnlib.nqm.search import certificate, ripples, valley, whole
from nnlib.nqm.search.landscape import Landscape
from nnlib.nqm.search.table import start

# Multiples of the batch size at SGD's bend. On the heavy ball's floor many minima are about as deep, and what smaller
# batches find on the way there helps: where a larger batch is asked for, these are searched beside it.
ON_THE_WAY = np.array([4.0**k for k in range(1, 8)])
SLACK = 1.1  # the first table goes a little beyond the steps that are known to be enough
SAFE = 1.05  # and they are a little more than what was found for SGD


class Found(NamedTuple):
    """Points (n, axes) and whole steps, as floats, (n,)."""

    points: Array
    steps: Array


def fewest_steps(
    problem: NoisyQuadratic, kind: Tunable, target: float, power: float, batch_sizes: Array
) -> tuple[Array, Array | None, np.ndarray]:
    """Fewest steps to a target at each batch size, and hyperparameters that reach it by then.

    Args:
        problem: NoisyQuadratic.
        kind: SGD, HeavyBall or IterateAverage.
        target: risk to reach.
        power: power of the preconditioner.
        batch_sizes: (n,).

    Returns:
        lr, momentum or decay (None for SGD) and steps, (n,) each.
    """
    landscape, asked = Landscape(problem, kind, target, power), batch_sizes
    bend = _examples(landscape) / problem.condition_number  # SGD's floor is about as many steps as that
    if kind is HeavyBall and batch_sizes.max() > bend * ON_THE_WAY[-1]:
        asked = np.append(batch_sizes, bend * ON_THE_WAY)
    points, steps = (result[: batch_sizes.size] for result in solve(landscape, asked))
    return *landscape.coordinates.hyperparameters(points), steps.astype(np.int64)


def solve(landscape: Landscape, batch_sizes: Array) -> Found:
    """The search itself; SGD, which is momentum 0 and decay 0, comes first and is never beaten by what follows."""
    if landscape.kind is SGD:
        sgd = None
        longest = _examples(landscape) / batch_sizes.min() + 1
    else:
        sgd = solve(landscape.of_sgd, batch_sizes)
        longest = SAFE * sgd.steps.max() + 1
    points, log_t = start(landscape, batch_sizes, SLACK * longest)
    points, log_t = valley.lowest_basin(landscape, points, log_t, batch_sizes)
    points, log_t = refine(landscape, points, log_t, batch_sizes)
    found = _no_worse_than(sgd, *whole.settle(landscape, points, log_t, batch_sizes))
    found = Found(*whole.shorten(landscape, *found, batch_sizes))
    found = certificate.inherit(*found, batch_sizes)
    points, steps = _no_worse_than(sgd, *certificate.enough(landscape, *found, batch_sizes))
    return Found(points, certificate.earliest(landscape, points, steps, batch_sizes))


def refine(landscape: Landscape, points: Array, log_t: Array, batch_sizes: Array) -> tuple[Array, Array]:
    """The exact landscape: down the valley where it is smooth, from ripple to ripple where it is not."""
    points, log_t = points.copy(), log_t.copy()
    rough = ripples.rough(landscape, points, log_t, batch_sizes)
    for part, method in ((rough, ripples.search), (~rough, valley.polish)):
        points[part], log_t[part] = method(landscape, points[part], log_t[part], batch_sizes[part])
    return points, log_t


def _no_worse_than(sgd: Found | None, points: Array, steps: Array) -> Found:
    """SGD wherever it is faster."""
    if sgd is None:
        return Found(points, steps)
    worse = steps > sgd.steps
    as_point = np.append(sgd.points, 0 * sgd.points, axis=1)
    return Found(np.where(worse[:, None], as_point, points), np.where(worse, sgd.steps, steps))


def _examples(landscape: Landscape) -> float:
    """Examples that SGD needs where batches are small."""
    return small_batch_examples(landscape.problem.sketch, landscape.target, landscape.power)
