"""How likely is a target, given what the network puts out? Heads that turn outputs into distributions of targets.

One contract for all of them: ``loss`` is the mean over the batch of -log p(y | outputs), with every constant, so that
an objective per example is ``loss + kl_weight * kl / n_data``: the KL term is divided by the number of *training
examples*, whatever the batch. Targets have the shape of the outputs; standardised targets stay standardised here, and
:mod:`nnlib.bayes.metrics` says how to come back.
Papers: arXiv 1811.12565, 1903.05779. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnlib.arguments import real, typed, whole, within
from nnlib.bayes.shapes import check_classes, same_shape

LOG_TWO_PI = math.log(2 * math.pi)
Device = torch.device | str | None


class Likelihood(Protocol):
    """What a method needs of a head."""

    kind: str  # ``gaussian`` or ``categorical``: how targets are drawn from outputs

    @property
    def precision(self) -> Tensor | float:
        """Factor on the Fisher matrix of the outputs."""
        ...

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean over particles and examples of -log p(y | outputs), a scalar."""
        ...


@typed
class Gaussian(nn.Module):
    """y ~ N(outputs, variance I): fixed noise, or learnt as softplus(s)^2 by the gradient of the loss.

    A floor is kept by projection: s is put back onto the floor whenever it is read below it, so that every step starts
    from there. A clamp of the value alone would have no gradient below the floor, and noise that went there once, or
    began there, would never leave.

    Args:
        variance: Of the noise, positive; the start where it is learnt.
        learnt: Whether it is a parameter.
        floor: Least standard deviation of learnt noise, not negative; fixed noise has none.
        device: Where it lives.
        dtype: Of the variance.

    Raises:
        TypeError: for what is no number or no boolean.
        ValueError: for a variance, or a floor, whose inverse is not positive and finite in ``dtype``, a negative floor,
            or a floor of fixed noise.

    Chapter: ``book/noisy_ekfac.ipynb``.

    >>> round(float(Gaussian(0.25).loss(torch.zeros(3, 1), torch.ones(3, 1))), 4)
    2.2258
    """

    kind = "gaussian"
    raw: Tensor  # softplus^-1 of the standard deviation
    copies: tuple[int, ...] = ()

    def __init__(
        self,
        variance: float = 1.0,
        *,
        learnt: bool = False,
        floor: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        within("(0, inf)", variance=variance)
        within("[0, inf)", floor=floor)
        if floor and not learnt:
            raise ValueError(f"floor is of learnt noise: got {floor} for fixed noise, whose variance is given")
        dtype = dtype or torch.get_default_dtype()
        raw = torch.tensor(softplus_inverse(variance**0.5), device=device, dtype=dtype)
        self.floor = floor
        lowest = torch.tensor(softplus_inverse(floor), dtype=dtype, device="cpu") if floor else raw
        for name, value, s in (("variance", variance, raw), ("floor", floor, lowest)):
            if not 0 < functional.softplus(s) ** -2 < math.inf:
                raise ValueError(f"{name} must have a positive and finite inverse in {dtype}: got {value}")
        if learnt:
            self.raw = nn.Parameter(raw)
        else:
            self.register_buffer("raw", raw)

    @property
    def precision(self) -> Tensor:
        """1 / variance, a scalar; with its gradient where it is learnt."""
        if self.floor:
            with torch.no_grad():  # the projection
                self.raw.clamp_(min=softplus_inverse(self.floor))
        return functional.softplus(self.raw.clone()) ** -2  # a clone: a graph outlives the next projection

    def precisions(self, particles: int, generator: torch.Generator | None = None) -> Tensor:
        """The precision of each particle's noise, (particles,): the same for all."""
        return self.precision.detach().expand(particles)

    @typed
    def log_prob(self, outputs: Tensor, y: Tensor, precision: Tensor | None = None) -> Tensor:
        """log p(y | outputs), summed over output dimensions.

        Args:
            outputs: (..., n, C).
            y: (n, C).
            precision: Broadcast against (..., n); by default the likelihood's own.

        Returns:
            (..., n).

        Raises:
            TypeError: where one is no tensor of floating-point numbers.
            ValueError: where y does not have the shape of the last two dimensions of ``outputs``, or one is empty.
        """
        same_shape(outputs, y, len(self.copies))
        p = self.precision if precision is None else precision
        squared = (outputs - y).square().sum(-1)  # (..., n)
        return 0.5 * (y.shape[-1] * (p.log() - LOG_TWO_PI) - p * squared)

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean over particles and examples of -log p(y | outputs), a scalar."""
        return -self.log_prob(outputs, y).mean()

    def observe(self, outputs: Tensor, y: Tensor) -> None:
        """Fixed and learnt noise learn nothing beside the gradient."""


@typed
class GammaGaussian(Gaussian):
    """y ~ N(outputs, I / p) with an unknown precision p ~ Gamma(shape, rate), whose posterior has a closed form.

    For given weights the posterior of p is Gamma(shape + n C / 2, rate + n E|y - f|^2 / 2). The mean square is known
    from batches only, so each call of :meth:`observe` moves the rate a part of the way. ``loss`` is the mean of
    -log p(y | f, p) over q(p). The released code of the paper fits both numbers by Adam to the same objective; this is
    its optimum.

    Args:
        n_data: Number of training examples, positive.
        shape: Of the prior, positive.
        rate: Of the prior, positive.
        outputs: C, number of outputs, which n C of the shape counts: others are refused.
        copies: Leading shape of the targets, ``(*copies, n, C)``, positive: a precision for each of several models
            side by side.
        decay: Of the running average of the rate, in [0, 1).
        device: Where it lives.
        dtype: Of the rate.

    Raises:
        TypeError: for what is no number.
        ValueError: for arguments out of range, or rate / shape that is 0 or infinite; and from ``observe`` for outputs
            or targets that are not finite, which would stay in the rate for ever.

    Source: arXiv 1811.12565, section 5.1 (prior Gamma(6, 6)). Chapter: ``book/noisy_ekfac.ipynb``.

    >>> noise = GammaGaussian(n_data=100, decay=0.0)
    >>> noise.observe(torch.zeros(50, 1), torch.full((50, 1), 0.5))
    >>> round(float(noise.precision), 3)  # (6 + 50) / (6 + 12.5)
    3.027
    """

    rate: Tensor

    def __init__(
        self,
        n_data: int,
        *,
        shape: float = 6.0,
        rate: float = 6.0,
        outputs: int = 1,
        copies: Sequence[int] = (),
        decay: float = 0.99,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        whole(1, n_data=n_data, outputs=outputs)
        within("(0, inf)", shape=shape, rate=rate)
        within("[0, 1)", decay=decay)
        for n in copies:
            whole(1, copies=n)
        if not 0 < rate / shape < math.inf:
            raise ValueError(f"rate / shape must be positive and finite: got rate={rate} and shape={shape}")
        super().__init__(rate / shape, device=device, dtype=dtype)
        self.n_data, self.outputs, self.copies, self.decay = n_data, outputs, tuple(copies), decay
        self.prior = shape, rate
        self.shape = shape + n_data * outputs / 2
        # Before anything was seen, the rate that keeps the prior's mean.
        self.register_buffer("rate", self.raw.new_full(self.copies, self.shape * rate / shape))

    @property
    def precision(self) -> Tensor:
        """E[p] = shape / rate, of the shape of ``copies``: a scalar where there are none."""
        return self.shape / self.rate

    @typed
    def precisions(self, particles: int, generator: torch.Generator | None = None) -> Tensor:
        """A draw of p for each particle, ``(particles, *copies)``: Gamma quantiles of uniform draws of the generator.

        Copies share the uniform draws, so that each has the precisions that it would have alone.
        """
        whole(1, particles=particles)
        u = torch.rand(particles, generator=generator, dtype=torch.float64, device=self.rate.device)
        quantiles = gamma_quantile(u, self.shape).to(self.rate)
        return quantiles.view(particles, *(1 for _ in self.copies)) / self.rate

    @typed
    def log_prob(self, outputs: Tensor, y: Tensor, precision: Tensor | None = None) -> Tensor:
        """log p(y | outputs, precision), or its mean over q(precision) where none is given: see :class:`Gaussian`."""
        self._fits(outputs, y)
        if precision is not None:
            return super().log_prob(outputs, y, precision)
        # E log p = digamma(shape) - log rate takes the place of log E p.
        shape = torch.full_like(self.rate, self.shape)[..., None]
        told = super().log_prob(outputs, y, self.precision[..., None])
        return told + 0.5 * y.shape[-1] * (torch.digamma(shape) - shape.log())

    @typed
    @torch.no_grad()
    def observe(self, outputs: Tensor, y: Tensor) -> None:
        """Move the rate towards rate_0 + n E|y - f|^2 / 2, the mean taken over particles and the batch."""
        self._fits(outputs, y)
        real("...", outputs=outputs, y=y)
        squared = (outputs - y).square().sum(-1)  # (..., *copies, n)
        particles = range(squared.ndim - 1 - len(self.copies))
        mean_square = squared.mean((*particles, squared.ndim - 1))
        self.rate.lerp_(self.prior[1] + self.n_data * mean_square / 2, 1 - self.decay)

    def _fits(self, outputs: Tensor, y: Tensor) -> None:
        same_shape(outputs, y, len(self.copies))
        expected = (*self.copies, y.shape[-2], self.outputs)
        if y.shape != expected:
            raise ValueError(
                f"y and outputs must have shape {expected}, as copies={self.copies} and outputs={self.outputs} of this "
                f"noise say: got {tuple(y.shape)}"
            )

    def kl(self) -> Tensor:
        """KL[Gamma(shape, rate) || prior], of the shape of ``copies``."""
        q = torch.distributions.Gamma(torch.full_like(self.rate, self.shape), self.rate)
        shape, rate = (torch.full_like(self.rate, value) for value in self.prior)
        p = torch.distributions.Gamma(shape, rate)
        return torch.distributions.kl_divergence(q, p)


class Categorical(nn.Module):
    """y ~ softmax(outputs), classes (n,).

    Chapter: ``book/noisy_ekfac.ipynb``.

    >>> round(float(Categorical().loss(torch.zeros(2, 4), torch.tensor([0, 3]))), 4)
    1.3863
    """

    kind = "categorical"

    @property
    def precision(self) -> float:
        """1: the Fisher matrix of the outputs needs no other scale."""
        return 1.0

    @typed
    def log_prob(self, outputs: Tensor, y: Tensor) -> Tensor:
        """log softmax(outputs)_y, (..., n), for outputs (..., n, C) and classes (n,).

        Raises:
            TypeError: where outputs are no floating-point numbers, or classes no whole ones.
            ValueError: where the shapes do not fit, one is empty, or a class is not from 0 to C - 1.
        """
        check_classes(outputs, y, finite=False)
        index = y.long()[:, None].expand(*outputs.shape[:-1], 1)
        return outputs.log_softmax(-1).gather(-1, index)[..., 0]

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean over particles and examples of -log softmax(outputs)_y, a scalar."""
        return -self.log_prob(outputs, y).mean()

    def observe(self, outputs: Tensor, y: Tensor) -> None:
        """Nothing to learn."""


def softplus_inverse(value: float) -> float:
    """x with log(1 + e^x) = value > 0, written so that neither a small nor a large one loses its digits.

    >>> [round(softplus_inverse(v), 6) for v in (1e-30, math.log(2), 800.0)]
    [-69.077553, 0.0, 800.0]
    """
    return value + math.log(-math.expm1(-value))


def gamma_quantile(u: Tensor, shape: float) -> Tensor:
    """Quantiles of Gamma(shape, 1) at u in (0, 1), by bisection on the regularised incomplete gamma function.

    torch draws gamma variates from its global generator alone; this way a seed decides.

    >>> gamma_quantile(torch.tensor([0.5], dtype=torch.float64), 1.0)  # exponential: log 2
    tensor([0.6931], dtype=torch.float64)
    """
    a = torch.full_like(u, shape)
    low, high = torch.zeros_like(u), torch.full_like(u, shape + 12 * shape**0.5 + 40)
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.special.gammainc(a, middle) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
