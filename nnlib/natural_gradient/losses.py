"""Losses that are strongly convex in each output, for the theorem beyond the squared error.

A loss is a sum over examples of l(u_i, y_i) with mu <= l'' <= L. Paper: arXiv 1905.10961, other losses.
Chapter: ``book/natural_gradient.ipynb``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nnlib.arguments import function, typed, within


@typed
@dataclass(frozen=True)
class Loss:
    """A loss of outputs u and targets y, shape (n,) each, and its derivatives by each u_i.

    Args:
        slope: l'(u_i, y_i), shape (n,).
        curvature: l''(u_i, y_i), shape (n,), in [mu, smoothness].
        minimiser: The u_i with slope 0, shape (n,).
        mu: Strong convexity, > 0.
        smoothness: L, at least mu.

    Raises:
        TypeError: one of the three is no function.
        ValueError: a number out of its range.
    """

    slope: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]
    minimiser: Callable[[Tensor], Tensor]
    mu: float
    smoothness: float

    def __post_init__(self):
        function(slope=self.slope, curvature=self.curvature, minimiser=self.minimiser)
        within("(0, inf)", mu=self.mu)
        within(f"[{self.mu}, inf)", smoothness=self.smoothness)

    def contraction(self, lr: float) -> float:
        """What |u - u*|^2 is multiplied by, at most, in a step of gradient descent on the outputs themselves.

        1 - 2 lr mu L / (mu + L), for 0 < lr <= 2 / (mu + L). The natural gradient with J'J makes such steps in the
        linearised case; for the squared error it is 1 - lr.

        Raises:
            ValueError: lr is outside that range.

        >>> SQUARED.contraction(0.25)
        0.75
        """
        total = self.mu + self.smoothness
        within(f"(0, {2 / total}]", lr=lr)
        return 1 - 2 * lr * self.mu * self.smoothness / total


SQUARED = Loss(
    slope=lambda u, y: u - y,  # of 1/2 (u - y)^2
    curvature=lambda u, y: torch.ones_like(u),
    minimiser=lambda y: y,
    mu=1.0,
    smoothness=1.0,
)


@typed
def logistic(l2: float) -> Loss:
    """log(1 + exp(-y u)) + l2/2 u^2 for targets y = +-1: mu = l2, L = l2 + 1/4.

    Without the second term the loss is convex, but not strongly: its minimum is at infinity.

    Args:
        l2: > 0.

    Raises:
        ValueError: l2 is not positive.

    >>> loss, y = logistic(0.1), torch.tensor([1.0, -1.0])
    >>> bool(loss.slope(loss.minimiser(y), y).abs().max() < 1e-6)
    True
    """
    within("(0, inf)", l2=l2)  # without, the loss is not strongly convex

    def slope(u: Tensor, y: Tensor) -> Tensor:
        return l2 * u - y * torch.sigmoid(-y * u)

    def curvature(u: Tensor, y: Tensor) -> Tensor:
        p = torch.sigmoid(u)
        return l2 + p * (1 - p)

    def minimiser(y: Tensor) -> Tensor:
        t = torch.full_like(y, 0.5 / (l2 + 0.25))  # of t = y u, from below: 1/2 - t/4 <= sigmoid(-t) = l2 t
        for _ in range(20):  # Newton on log(l2 t) - log sigmoid(-t), which is concave: the steps never overshoot
            t = t - (math.log(l2) + t.log() - logsigmoid(-t)) / (1 / t + torch.sigmoid(t))
        return y * t

    return Loss(slope, curvature, minimiser, mu=l2, smoothness=l2 + 0.25)
