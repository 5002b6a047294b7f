"""Which methods does the chapter compare? Each is a small frozen record of its hyperparameters.

All precondition the gradient by H^(-power): power 0 is the plain method, larger powers stand in for better
preconditioners (the paper's proxy for Adam and K-FAC). Chapter: book/nqm.ipynb.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnlib.arguments import typed, whole, within
from nnlib.nqm.checks import numbers
from nnlib.nqm.problem import NoisyQuadratic


@typed
@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: theta <- theta - lr H^(-power) g.

    Args:
        lr: learning rate, > 0. Stable below 2 / max h^(1-power).
        power: power of the preconditioner, in [0, 1].

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb
    """

    lr: float
    power: float = 0.0

    def __post_init__(self) -> None:
        within("(0, inf)", lr=self.lr)
        within("[0, 1]", power=self.power)


@typed
@dataclass(frozen=True)
class HeavyBall:
    """SGD with momentum: m <- momentum m + H^(-power) g;  theta <- theta - lr m;  m_0 = 0.

    Args:
        lr: learning rate, > 0, outside the momentum buffer as in torch.optim.SGD.
            Stable below 2 (1 + momentum) / max h^(1-power).
        momentum: in [0, 1).
        power: power of the preconditioner, in [0, 1].

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb
    """

    lr: float
    momentum: float
    power: float = 0.0

    def __post_init__(self) -> None:
        within("(0, inf)", lr=self.lr)
        within("[0, 1)", momentum=self.momentum)
        within("[0, 1]", power=self.power)


@typed
@dataclass(frozen=True)
class IterateAverage:
    """SGD judged at an exponential moving average of its iterates.

    theta <- theta - lr H^(-power) g;  mean <- decay mean + (1 - decay) theta;  mean_0 = theta_0.
    The new iterate enters at once and there is no start-up correction.

    Args:
        lr: learning rate, > 0. Stable below 2 / max h^(1-power), whatever the decay.
        decay: in [0, 1); 0 is SGD.
        power: power of the preconditioner, in [0, 1].

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb
    """

    lr: float
    decay: float
    power: float = 0.0

    def __post_init__(self) -> None:
        within("(0, inf)", lr=self.lr)
        within("[0, 1)", decay=self.decay)
        within("[0, 1]", power=self.power)


@typed
@dataclass(frozen=True)
class Schedule:
    """SGD with a piecewise constant learning rate: lrs[j] for steps_per_piece steps, then lrs[j + 1].

    Args:
        lrs: learning rates, each > 0 and stable as for SGD.
        steps_per_piece: whole number, at least 1.
        power: power of the preconditioner, in [0, 1].

    Chapter: book/nqm.ipynb
    """

    lrs: Sequence[float]
    steps_per_piece: int
    power: float = 0.0

    def __post_init__(self) -> None:
        lrs = numbers(lrs=self.lrs)
        if lrs.ndim != 1 or lrs.size == 0:
            raise ValueError(f"lrs must hold at least one learning rate, in a row: got shape {lrs.shape}")
        for lr in lrs:
            within("(0, inf)", lrs=float(lr))
        object.__setattr__(self, "lrs", tuple(lrs.tolist()))
        whole(1, steps_per_piece=self.steps_per_piece)
        within("[0, 1]", power=self.power)

    @property
    def steps(self) -> int:
        """Length of the whole schedule."""
        return len(self.lrs) * self.steps_per_piece


Method = SGD | HeavyBall | IterateAverage | Schedule
Tunable = type[SGD | HeavyBall | IterateAverage]  # what `steps_to_target` finds hyperparameters for


@typed
def stability_limit(problem: NoisyQuadratic, method: Method) -> float:
    """The learning rate from which on the second moment of the fastest mode no longer settles.

    2 / max h^(1-power) for SGD, its average and its schedules; (1 + momentum) times that for the heavy ball.

    Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import HeavyBall, NoisyQuadratic
    >>> stability_limit(NoisyQuadratic(), HeavyBall(lr=1.0, momentum=0.5))
    3.0
    """
    return float((1 + getattr(method, "momentum", 0.0)) * 2 / np.max(problem.h ** (1 - method.power)))


def check_stable(problem: NoisyQuadratic, method: Method) -> None:
    """Raise ValueError where a learning rate of `method` is not below the stability limit of `problem`."""
    limit = stability_limit(problem, method)
    lr = max(method.lrs) if isinstance(method, Schedule) else method.lr
    if not lr < limit:
        raise ValueError(f"lr must lie below the stability limit {limit:.6g} of {type(method).__name__}: got {lr:.6g}")
