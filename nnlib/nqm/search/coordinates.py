"""Where does a search move? Hyperparameters as points (z, y) of a plane, where no wall cuts a step short.

Chapter: book/nqm.ipynb.
"""

import math
from dataclasses import dataclass

import numpy as np

from nnlib.nqm.methods import SGD, HeavyBall, Tunable
from nnlib.nqm.problem import Array

NEAREST = 14.0  # the largest lr is 1 - exp(-14), a millionth, below the limit: no optimum was found closer
FURTHEST = 30.0  # and the smallest exp(-30) over the length of ten runs: a run with it does not move
MEMORY = 10.0  # the longest memory, 1/(1 - momentum), in runs: more is the same to a run as no forgetting at all


@dataclass(frozen=True)
class Coordinates:
    """Points and the hyperparameters that they stand for.

    SGD:              lr = limit / (1 + exp(-z))
    average:          lr = limit / (1 + exp(-z)),              decay b = 1 - exp(-y)
    heavy ball:       lr = limit (1 + b) / (1 + exp(y - z)),   momentum b = 1 - exp(-y)

    So exp(y) is the memory 1/(1 - b) in steps. Both ends of lr are far away in z, tiny rates and those that are just
    stable. Far from the limit the heavy ball's effective rate lr/(1 - b) is limit (1 + b) exp(z): moving along y leaves
    it where it is, and the valley of good points lies along an axis.

    Args:
        kind: SGD, HeavyBall or IterateAverage.
        limit: learning rate from which on SGD is unstable.
    """

    kind: Tunable
    limit: float

    @property
    def axes(self) -> int:
        """Number of coordinates: z alone, or z and y."""
        return 1 if self.kind is SGD else 2

    def hyperparameters(self, points: Array) -> tuple[Array, Array | None]:
        """lr and momentum or decay (None for SGD), (...), at points (..., axes)."""
        z = points[..., 0]
        if self.kind is SGD:
            return self.limit / (1 + np.exp(-z)), None
        extra = -np.expm1(-points[..., 1])
        if self.kind is HeavyBall:
            return self.limit * (1 + extra) / (1 + np.exp(points[..., 1] - z)), extra
        return self.limit / (1 + np.exp(-z)), extra

    def clip(self, points: Array, log_t: Array) -> Array:
        """The nearest points (..., axes) that make sense in runs of t steps, (...)."""
        points = points.copy()
        longest = log_t + math.log(MEMORY)
        if self.axes == 2:
            points[..., 1] = np.clip(points[..., 1], 0, longest)
        ridge = points[..., 1] if self.kind is HeavyBall else 0  # z of half the limit
        points[..., 0] = np.clip(points[..., 0], -longest - FURTHEST, NEAREST + ridge)
        return points

    def stretch(self, points: Array, shift: Array) -> Array:
        """The same run, only longer: points (..., axes) for exp(shift) times the steps, (...).

        The (effective) lr times t and (1 - b) t stay, and with them how much of each mode is left and, for the heavy
        ball, the phases t sqrt(lr h) of its oscillations.
        """
        return points + shift[..., None] * np.array([-1.0, 1.0])[: self.axes]
