"""How many steps does each method need at each batch size, with its hyperparameters tuned for that batch size?

T(B) = the smallest whole t for which some hyperparameters bring the exact risk below the target.
Paper: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnlib.arguments import one_of, shown, typed, whole, within
from nnlib.nqm.checks import MOST, Numbers, check_batch_size, check_target, numbers
from nnlib.nqm.methods import SGD, HeavyBall, IterateAverage, Method, Schedule, Tunable
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


@typed
@dataclass(frozen=True)
class StepsCurve:
    """Steps to a target over batch sizes, each with its own best hyperparameters.

    Args:
        problem, method_class, target, power: what was asked.
        batch_sizes: (n,).
        steps: whole numbers, (n,): the first step at which the risk lies below the target.
        lr: (n,).
        momentum, decay: (n,), or None where the method has none.

    Raises:
        TypeError, ValueError: an argument of another kind, or entries that are none of what they stand for.
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

    def __post_init__(self) -> None:
        _check_question(self.problem, self.method_class, self.target, self.power)
        for name in ("batch_sizes", "steps", "lr", "momentum", "decay"):
            value, fraction = getattr(self, name), name in ("momentum", "decay")
            if fraction and (EXTRA[self.method_class] == name) != (value is not None):
                raise ValueError(f"{name} must be given exactly where the method has it: got {shown(value)}")
            if value is None:
                continue
            if value.ndim != 1 or value.size == 0 or value.shape != self.batch_sizes.shape:
                raise ValueError(f"{name} must have shape (n,), the same as batch_sizes, not empty: got {value.shape}")
            entries = numbers(**{name: value})
            fine = (entries >= 0) & (entries < 1) if fraction else entries > 0  # NaN is neither
            fine &= np.isfinite(entries) | (name == "batch_sizes")
            if not fine.all():
                raise ValueError(
                    f"{name} must be {'in [0, 1)' if fraction else 'positive'} everywhere: got {entries[~fine][0]}"
                )

    @property
    def examples(self) -> Array:
        """Examples processed, steps times batch size, (n,)."""
        return self.steps * self.batch_sizes

    @property
    def effective_lr(self) -> Array:
        """lr / (1 - momentum), (n,): how far a constant gradient moves the iterate per step, in the long run."""
        return self.lr if self.momentum is None else self.lr / (1 - self.momentum)

    @typed
    def method(self, index: int) -> SGD | HeavyBall | IterateAverage:
        """The tuned method at one batch size, for `expected_risk`; index from 0 to n - 1."""
        whole(0, self.lr.size - 1, index=index)
        extra = EXTRA[self.method_class]
        tuned = {} if extra is None else {extra: float(getattr(self, extra)[index])}
        return self.method_class(lr=float(self.lr[index]), power=self.power, **tuned)

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each batch size: batch_size, steps, examples, lr, effective_lr, and momentum or decay."""
        extra = EXTRA[self.method_class]
        names = ["batch_size", "steps", "examples", "lr", "effective_lr", *([] if extra is None else [extra])]
        columns = [getattr(self, "batch_sizes" if name == "batch_size" else name).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


@typed
def steps_to_target(
    problem: NoisyQuadratic, method_class: Tunable, batch_sizes: Numbers, target: float, power: float = 0.0
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
    _check_question(problem, method_class, target, power)
    batch_sizes = numbers(batch_sizes=batch_sizes)
    if batch_sizes.ndim != 1 or batch_sizes.size == 0 or not (batch_sizes > 0).all():
        raise ValueError(f"batch_sizes must be a vector of positive numbers: got {batch_sizes}")
    lr, extra, steps = fewest_steps(problem, method_class, target, power, batch_sizes)
    momentum, decay = (extra if EXTRA[method_class] == name else None for name in ("momentum", "decay"))
    return StepsCurve(problem, method_class, target, power, batch_sizes, steps, lr, momentum, decay)


def _check_question(problem: NoisyQuadratic, method_class: Tunable, target: float, power: float) -> None:
    one_of(tuple(EXTRA), method_class=method_class)
    check_target(problem, target)
    within("[0, 1]", power=power)


@typed
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
    check_batch_size(batch_size)
    whole(1, MOST, max_steps=max_steps)
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
