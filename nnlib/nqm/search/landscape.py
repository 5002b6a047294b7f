"""What does a search look at? log R over hyperparameters, times and batch sizes.

Chapter: book/nqm.ipynb.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnlib.nqm.methods import SGD, Tunable
from nnlib.nqm.problem import Array, NoisyQuadratic, Spectrum
from nnlib.nqm.risk import total_risk
from nnlib.nqm.search.coordinates import Coordinates

BLUR = 0.1  # relative: phases beyond some 10 rad average out, which a sketch of the spectrum could not follow anyway
LEAST_RISK = 1e-300  # where nothing is left of the start and there is no noise: its logarithm is finite
APART = 0.01  # in log t, for the slope of log R over log t
FLATTEST = -0.1  # no slope is taken to be flatter, so that a step of Newton's along t stays within reach


@dataclass(frozen=True)
class Landscape:
    """The risk of one method on one problem, as a search sees it.

    Args:
        problem: NoisyQuadratic.
        kind: SGD, HeavyBall or IterateAverage.
        target: risk to reach.
        power: power of the preconditioner.
    """

    problem: NoisyQuadratic
    kind: Tunable
    target: float
    power: float

    @cached_property
    def coordinates(self) -> Coordinates:
        """Where its points lie."""
        return Coordinates(self.kind, 2 / self.problem.h[0] ** (1 - self.power))

    @property
    def goal(self) -> float:
        """log R at which the target is met."""
        return math.log(self.target)

    @property
    def of_sgd(self) -> "Landscape":
        """The same question to SGD, which is momentum 0 and decay 0."""
        return Landscape(self.problem, SGD, self.target, self.power)

    def log_risk(self, spectrum: Spectrum, points: Array, log_t: Array, batch_sizes: Array, blur: float = 0.0) -> Array:
        """log R, (m, k).

        Args:
            spectrum: one of the problem's; on its sketch the risk is always smoothed.
            points: (m, k, axes).
            log_t: log steps, (m,).
            batch_sizes: (m,).
            blur: relative spread over which the phases of oscillating modes are averaged; 0 is exact.
        """
        blur = BLUR if spectrum is self.problem.sketch else blur
        lr, extra = self.coordinates.hyperparameters(points)
        bias, variance = total_risk(spectrum, self.kind, lr, extra, self.power, np.exp(log_t)[:, None], blur)
        return np.log(np.maximum(bias + variance / batch_sizes[:, None], LEAST_RISK))

    def at(self, spectrum: Spectrum, points: Array, log_t: Array, batch_sizes: Array) -> Array:
        """log R of one point (m, axes) for each time and batch size, (m,)."""
        return self.log_risk(spectrum, points[:, None], log_t, batch_sizes)[:, 0]

    def slope(self, points: Array, log_t: Array, batch_sizes: Array) -> Array:
        """d log R / d log t at points (m, axes) of the sketch, where the heavy ball has no ripples, (m,)."""
        now, later = (self.at(self.problem.sketch, points, log_t + shift, batch_sizes) for shift in (0, APART))
        return np.minimum((later - now) / APART, FLATTEST)

    def exact(self, points: Array, steps: Array, batch_sizes: Array) -> Array:
        """log R on the whole spectrum of one point (m, axes) for each whole number of steps and batch size, (m,)."""
        risks = []
        for point, step, batch in zip(points, steps, batch_sizes, strict=True):
            lr, extra = self.coordinates.hyperparameters(point)
            bias, variance = total_risk(self.problem.spectrum, self.kind, lr, extra, self.power, step)
            risks.append(bias + variance / batch)
        return np.log(risks)
