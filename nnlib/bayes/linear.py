"""The exact posterior of Bayesian linear regression: the answer that approximate methods are held against.

y = X w + noise, noise ~ N(0, s2), w ~ N(0, prior_variance I). Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import real, within
from nnlib.bayes.likelihoods import LOG_TWO_PI
from nnlib.cholesky import cholesky


@dataclass(frozen=True)
class LinearGaussian:
    """The model and its data; everything else follows in closed form.

    Args:
        X: Inputs, (n, d); a column of ones makes a bias.
        y: Targets, (n,).
        noise_variance: s2, positive.
        prior_variance: Positive.

    Raises:
        ValueError: for other shapes, numbers that are not finite, or variances that are not positive.

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
        if self.X.ndim != 2 or self.y.shape != self.X.shape[:1]:
            raise ValueError(f"X must be (n, d) and y (n,): got {tuple(self.X.shape)} and {tuple(self.y.shape)}")
        within("(0, inf)", noise_variance=self.noise_variance, prior_variance=self.prior_variance)
        real("...", X=self.X, y=self.y)

    @property
    def precision(self) -> Tensor:
        """X'X / s2 + I / prior_variance, (d, d)."""
        eye = torch.eye(self.X.shape[1], dtype=self.X.dtype, device=self.X.device)
        return self.X.mT @ self.X / self.noise_variance + eye / self.prior_variance

    @property
    def covariance(self) -> Tensor:
        """Of the posterior, (d, d)."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.precision))

    @property
    def mean(self) -> Tensor:
        """Of the posterior, (d,)."""
        right = (self.X.mT @ self.y / self.noise_variance)[:, None]
        return torch.cholesky_solve(right, torch.linalg.cholesky(self.precision))[:, 0]

    def log_evidence(self) -> Tensor:
        """log p(y), a scalar: y ~ N(0, s2 I + prior_variance X X')."""
        n = len(self.y)
        eye = torch.eye(n, dtype=self.X.dtype, device=self.X.device)
        L = torch.linalg.cholesky(self.noise_variance * eye + self.prior_variance * self.X @ self.X.mT)
        z = torch.linalg.solve_triangular(L, self.y[:, None], upper=False)
        return -0.5 * (z.square().sum() + n * LOG_TWO_PI) - L.diagonal().log().sum()

    def elbo(self, mean: Tensor, covariance: Tensor) -> Tensor:
        """E_q log p(y | w) - KL[q || prior] of q = N(mean, covariance), a scalar; log p(y) at the posterior alone.

        Args:
            mean: (d,).
            covariance: (d, d), positive definite.
        """
        residual = (self.y - self.X @ mean).square().sum() + ((self.X @ covariance) * self.X).sum()
        expected = -0.5 * (len(self.y) * (LOG_TWO_PI + math.log(self.noise_variance)) + residual / self.noise_variance)
        prior = self.prior_variance * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        return expected - gaussian_kl(mean, covariance, torch.zeros_like(mean), prior)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of a new target, both (m,), noise included, at inputs (m, d)."""
        return x @ self.mean, ((x @ self.covariance) * x).sum(1) + self.noise_variance


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
        ValueError: where a covariance is not positive definite: the KL is then infinite or undefined.

    Chapters: ``book/noisy_ekfac.ipynb``, ``book/functional_bnn.ipynb``.

    >>> zero, eye = torch.zeros(3), torch.eye(3)
    >>> float(gaussian_kl(zero, eye, zero, eye))
    0.0
    """
    factor, prior_factor = _factor("covariance", covariance, mean), _factor("prior_covariance", prior_covariance, mean)
    ratio = torch.linalg.solve_triangular(prior_factor, factor, upper=False)
    shift = torch.linalg.solve_triangular(prior_factor, (prior_mean - mean)[:, None], upper=False)
    log_dets = 2 * (prior_factor.diagonal().log().sum() - factor.diagonal().log().sum())
    return 0.5 * (ratio.square().sum() + shift.square().sum() - len(mean) + log_dets)


def _factor(name: str, covariance: Tensor, mean: Tensor) -> Tensor:
    """The Cholesky factor, or a ValueError that names the matrix."""
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{name} must be (n, n) beside a mean (n,): got {tuple(covariance.shape)}, {tuple(mean.shape)}"
        )
    return cholesky(covariance, f"{name} must be positive definite: the KL is infinite or undefined")
