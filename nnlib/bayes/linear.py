"""The exact posterior of Bayesian linear regression: the answer that approximate methods are held against.

y = X w + noise, noise ~ N(0, s2), w ~ N(0, prior_variance I). Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnlib.arguments import real, typed, within
from nnlib.bayes.likelihoods import LOG_TWO_PI
from nnlib.cholesky import cholesky

SINGULAR = "X and the variances make a matrix that is singular up to rounding, or too large for its type"


@typed
@dataclass(frozen=True)
class LinearGaussian:
    """The model and its data; everything else follows in closed form.

    Args:
        X: Inputs, (n, d); a column of ones makes a bias.
        y: Targets, (n,).
        noise_variance: s2, positive.
        prior_variance: Positive.

    Raises:
        TypeError: for what is no tensor of floating-point numbers, or no number.
        ValueError: for other shapes, numbers that are not finite, variances that are not positive; and, from what
            follows, where X and the variances make a matrix that is singular up to rounding, or too large.

    Source: Bishop, Pattern Recognition and Machine Learning, section 3.3. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> model = LinearGaussian(torch.ones(3, 1), torch.tensor([1.0, 2.0, 3.0]), 1.0, 1.0)
    >>> model.mean.tolist(), model.covariance.tolist()
    ([1.5], [[0.25]])
    """

    X: Tensor
    y: Tensor
    noise_variance: float
    prior_variance: float

    def __post_init__(self):
        real("n d", X=self.X)
        real("...", y=self.y)
        if self.y.shape != self.X.shape[:1]:
            raise ValueError(
                f"y must have a number for each row of X, (n,): got {tuple(self.y.shape)} beside {tuple(self.X.shape)}"
            )
        within("(0, inf)", noise_variance=self.noise_variance, prior_variance=self.prior_variance)

    @property
    def precision(self) -> Tensor:
        """X'X / s2 + I / prior_variance, (d, d)."""
        eye = torch.eye(self.X.shape[1], dtype=self.X.dtype, device=self.X.device)
        return self.X.mT @ self.X / self.noise_variance + eye / self.prior_variance

    @property
    def covariance(self) -> Tensor:
        """Of the posterior, (d, d)."""
        return torch.cholesky_inverse(cholesky(self.precision, SINGULAR))

    @property
    def mean(self) -> Tensor:
        """Of the posterior, (d,)."""
        right = (self.X.mT @ self.y / self.noise_variance)[:, None]
        return torch.cholesky_solve(right, cholesky(self.precision, SINGULAR))[:, 0]

    def log_evidence(self) -> Tensor:
        """log p(y), a scalar: y ~ N(0, s2 I + prior_variance X X')."""
        n = len(self.y)
        eye = torch.eye(n, dtype=self.X.dtype, device=self.X.device)
        L = cholesky(self.noise_variance * eye + self.prior_variance * self.X @ self.X.mT, SINGULAR)
        z = torch.linalg.solve_triangular(L, self.y[:, None], upper=False)
        return -0.5 * (z.square().sum() + n * LOG_TWO_PI) - L.diagonal().log().sum()

    @typed
    def elbo(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """E_q log p(y | w) - KL[q || prior] of q = N(mean, covariance), a scalar; log p(y) at the posterior alone.

        Args:
            mean: (d,).
            covariance: (d, d), positive definite.
        """
        sizes = {"d": self.X.shape[1]}
        real("d", sizes, mean=mean)
        real("d d", sizes, covariance=covariance)
        residual = (self.y - self.X @ mean).square().sum() + ((self.X @ covariance) * self.X).sum()
        expected = -0.5 * (len(self.y) * (LOG_TWO_PI + math.log(self.noise_variance)) + residual / self.noise_variance)
        prior = self.prior_variance * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        return expected - gaussian_kl(mean, covariance, torch.zeros_like(mean), prior)

    @typed
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a new target, both (m,), noise included, at inputs (m, d)."""
        real("m d", {"d": self.X.shape[1]}, x=x)
        return x @ self.mean, ((x @ self.covariance) * x).sum(1) + self.noise_variance


@typed
def gaussian_kl(mean: Tensor, covariance: Tensor, prior_mean: Tensor, prior_covariance: Tensor) -> Tensor:
    """KL[N(m, S) ‖ N(m₀, S₀)] = ½ [tr(S₀⁻¹ S) + (m₀ − m)ᵀ S₀⁻¹ (m₀ − m) − n + log det S₀ − log det S].

    Args:
        mean: (n,).
        covariance: (n, n), positive definite.
        prior_mean: (n,).
        prior_covariance: (n, n), positive definite.

    Returns:
        A scalar, in nats.

    Raises:
        TypeError: where one is no tensor of floating-point numbers.
        ValueError: for other shapes, numbers that are not finite, or a covariance that is not positive definite: the KL
            is then infinite or undefined.

    Chapters: ``book/noisy_ekfac.ipynb``, ``book/functional_bnn.ipynb``.

    >>> zero, eye = torch.zeros(3), torch.eye(3)
    >>> float(gaussian_kl(zero, eye, zero, eye))
    0.0
    """
    named: dict[str, Any] = {
        "mean": mean,
        "prior_mean": prior_mean,
        "covariance": covariance,
        "prior_covariance": prior_covariance,
    }
    real("...", **named)
    if mean.ndim != 1 or [t.shape for t in named.values()] != [mean.shape] * 2 + [2 * mean.shape] * 2:
        found = ", ".join(f"{name} {tuple(t.shape)}" for name, t in named.items())
        raise ValueError(f"means must have shape (n,) and covariances (n, n), all of one n: got {found}")
    factors = [
        cholesky(named[name], f"{name} must be positive definite: the KL is infinite or undefined")
        for name in ("covariance", "prior_covariance")
    ]
    return kl_of_factors(mean, factors[0], prior_mean, factors[1])


def kl_of_factors(mean: Tensor, factor: Tensor, prior_mean: Tensor, prior_factor: Tensor) -> Tensor:
    """KL[N(m, L Lᵀ) ‖ N(m₀, L₀ L₀ᵀ)], a scalar, by the Cholesky factors, (n, n)."""
    ratio = torch.linalg.solve_triangular(prior_factor, factor, upper=False)
    shift = torch.linalg.solve_triangular(prior_factor, (prior_mean - mean)[:, None], upper=False)
    log_dets = 2 * (prior_factor.diagonal().log().sum() - factor.diagonal().log().sum())
    return 0.5 * (ratio.square().sum() + shift.square().sum() - len(mean) + log_dets)
