"""How many steps does each method need at each batch size, with its hyperparameters tuned for that batch size?

T(B) = the smallest whole t for which some hyperparameters bring the exact risk below the target.
Paper: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb.
"""

import math
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nnlib.nqm.bounds import check_target
from nnlib.nqm.methods import SGD, HeavyBall, IterateAverage, Method, Schedule, Tunable, check_power
from nnlib.nqm.problem import Array, NoisyQuadratic
from nnlib.nqm.risk import expected_risk
from nnlib.nqm.search import fewest_steps

RESOLUTION = 1024  # steps up to which a first passage looks at every one; beyond, its share that two looks lie apart
LOOKS = 256  # at a time
EXTRA: dict[type, str | None] = {
    SGD: None,
    HeavyBall: "momentum",
    IterateAverage: "decay",
}  # what each method tunes beside lr


@dataclass(frozen=True)
class StepsCurve:
    """Steps to a target over batch sizes, each with its own best hyperparameters.

    Args:
        problem, method_class, target, power: what was asked.
        batch_sizes: (n,).
        steps: whole numbers, (n,): the first step at which the risk lies below the target.
        lr: (n,).
        momentum, decay: (n,), or None where the method has none.
    """

    problem: NoisyQuadratic = field(repr=False)
    method_class: Tunable
    target: float
    power: float
    batch_sizes: Array
    steps: np.ndarray
    lr: Array
    momentum: Array | None = None
    decay: Array | None = None

    @property
    def examples(self) -> Array:
        """Examples processed, steps times batch size, (n,)."""
        return self.steps * self.batch_sizes

    @property
    def effective_lr(self) -> Array:
        """lr / (1 - momentum), (n,): how far a constant gradient moves the iterate per step, in the long run."""
        return self.lr if self.momentum is None else self.lr / (1 - self.momentum)

    def method(self, index: int) -> SGD | HeavyBall | IterateAverage:
        """The tuned method at one batch size, for `expected_risk`."""
        extra = EXTRA[self.method_class]
        tuned = {} if extra is None else {extra: float(getattr(self, extra)[index])}
        return self.method_class(lr=float(self.lr[index]), power=self.power, **tuned)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each batch size: batch_size, steps, examples, lr, effective_lr, and momentum or decay."""
        extra = EXTRA[self.method_class]
        names = ["batch_size", "steps", "examples", "lr", "effective_lr", *([] if extra is None else [extra])]
        columns = [getattr(self, "batch_sizes" if name == "batch_size" else name).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def steps_to_target(
    problem: NoisyQuadratic, method_class: Tunable, batch_sizes: ArrayLike, target: float, power: float = 0.0
) -> StepsCurve:
    """Fewest steps to bring the expected risk below a target, tuned separately at every batch size.

    T(B) = min { t : min over hyperparameters of bias(t) + variance(t) / B < target }

    Args:
        problem: NoisyQuadratic.
        method_class: SGD, HeavyBall or IterateAverage.
        batch_sizes: positive numbers, (n,); math.inf asks for the floor, where only the bias counts.
        target: risk to reach, in (0, problem.initial_risk).
        power: power of the preconditioner, in [0, 1].

    The steps and hyperparameters are exact for each other: the risk of all eigenvalues lies below the target at T and
    not at T - 1. That no other hyperparameters need fewer steps is certain to a step or 0.1 % for SGD and the
    average. The heavy ball's risk ripples with the phases of its modes, so that on the floor of large batches
    a few per cent may still be hidden.

    Returns:
        StepsCurve. With a small enough learning rate every target is reached, so all steps are finite.

    Raises:
        ValueError: an argument out of range, or a target that takes more than 10^13 steps.

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb

    >>> steps_to_target(NoisyQuadratic(), SGD, [4, 1024], target=0.01).steps.tolist()
    [1507530, 10354]
    """
    if method_class not in EXTRA:
        raise ValueError(f"method_class must be SGD, HeavyBall or IterateAverage: got {method_class!r}")
    check_target(problem, target)
    check_power(power)
    batch_sizes = np.asarray(batch_sizes, dtype=np.float64).copy()
    if batch_sizes.ndim != 1 or batch_sizes.size == 0 or not (batch_sizes > 0).all():
        raise ValueError(f"batch_sizes must be a vector of positive numbers: got {batch_sizes}")
    lr, extra, steps = fewest_steps(problem, method_class, target, power, batch_sizes)
    momentum, decay = (extra if EXTRA[method_class] == name else None for name in ("momentum", "decay"))
    return StepsCurve(problem, method_class, target, power, batch_sizes, steps, lr, momentum, decay)


def first_passage(
    problem: NoisyQuadratic, method: Method, batch_size: float, target: float, max_steps: int = 10**6
) -> float:
    """The first step at which the exact expected risk of one given method lies below the target.

    The heavy ball's risk is not monotone in t: it may dip below the target, rise above it and come back. So every
    step is looked at, up to 1024; beyond, every 1/1024 of the step count, and then between the last two looks (a
    dip shorter than that is missed).

    Args:
        problem: NoisyQuadratic.
        method: SGD, HeavyBall, IterateAverage or Schedule.
        batch_size: > 0; math.inf for no noise.
        target: risk to reach, in (0, problem.initial_risk).
        max_steps: where to stop looking, at least 1; a Schedule ends by itself.

    Returns:
        int, or math.inf where the target is not met within max_steps, for example because the noise of a learning
        rate this large keeps the risk above it for ever.

    Raises:
        ValueError: an argument out of range, an unstable learning rate.

    Chapter: book/nqm.ipynb

    >>> first_passage(NoisyQuadratic(), HeavyBall(lr=3.5, momentum=0.8, power=0.5), 2**18, target=0.01)
    29
    """
    check_target(problem, target)
    if not isinstance(max_steps, Integral) or isinstance(max_steps, bool) or max_steps < 1:
        raise ValueError(f"max_steps must be a whole number, at least 1: got {max_steps!r}")
    last = min(max_steps, method.steps) if isinstance(method, Schedule) else max_steps
    before = 0
    while before < last:
        stride = max(1, before // RESOLUTION)
        looks = np.minimum(before + stride * np.arange(1, LOOKS + 1), last)
        below = np.flatnonzero(expected_risk(problem, method, looks).at(batch_size) < target)
        if below.size and stride == 1:
            return int(looks[below[0]])
        if below.size:
            start = int(looks[below[0] - 1]) if below[0] else before
            between = np.arange(start + 1, int(looks[below[0]]) + 1)
            below = expected_risk(problem, method, between).at(batch_size) < target
            return int(between[below.argmax()])
        before = int(looks[-1])
    return math.inf
