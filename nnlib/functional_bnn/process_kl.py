"""How far apart are two random functions? KL on finite sets of inputs, in closed form where both are Gaussian.

Paper: arXiv 1903.05779, section 2.2 and theorem 1. Chapter: book/functional_bnn.ipynb.
"""

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from nnlib.arguments import real, typed, within
from nnlib.bayes import gaussian_kl
from nnlib.bayes.linear import kl_of_factors
from nnlib.cholesky import cholesky
from nnlib.functional_bnn.gp import NOT_NEGATIVE, gram

UNDEFINED = "the KL is infinite or undefined; give or raise injected_noise, or take away points that coincide"
__all__ = ["feature_kl", "gaussian_kl", "process_kl"]


@typed
def process_kl(q: Kernel, p: Kernel, x: Tensor, injected_noise: float = 0.0) -> Tensor:
    """KL between the marginals at x of two Gaussian processes of mean 0, both with noise γ² I added.

    The KL of the processes is the supremum over all finite sets x, so each value is a lower bound of it, and adding a
    point never lowers it.

    Args:
        q: Kernel of the first process.
        p: Kernel of the second.
        x: (n, d), different points.
        injected_noise: γ, not negative.

    Raises:
        TypeError: for what is no kernel, tensor or number.
        ValueError: for negative noise, x of another shape or not finite, or a covariance that is not positive definite:
            without noise where points coincide.

    Source: arXiv 1903.05779, theorem 1 and equation 3. Chapter: book/functional_bnn.ipynb.

    >>> from gpytorch.kernels import RBFKernel
    >>> wide, narrow = RBFKernel().double(), RBFKernel().double()
    >>> narrow.lengthscale = 0.3
    >>> x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    >>> [round(process_kl(narrow, wide, x[:n]).item(), 3) for n in (1, 2, 3)]
    [0.0, 0.074, 0.179]
    """
    within(NOT_NEGATIVE, injected_noise=injected_noise)
    real("n d", x=x)
    eye = injected_noise**2 * torch.eye(len(x), dtype=x.dtype, device=x.device)
    zero = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    L, L0 = (
        cholesky(gram(kernel, x) + eye, f"the covariance of {name} at x must be positive definite: {UNDEFINED}")
        for name, kernel in (("q", q), ("p", p))
    )
    return kl_of_factors(zero, L, zero, L0)


@typed
def feature_kl(
    features: Tensor, mean: Tensor, covariance: Tensor, prior_covariance: Tensor, injected_noise: float
) -> Tensor:
    """KL between f = Φ w with w ~ N(m, S) and with w ~ N(0, S₀), at the inputs of Φ, with noise γ² I on both.

    Where Φ has full column rank and γ → 0 it becomes the KL between the weights: in a model that is linear in features,
    function space and weight space agree.

    Args:
        features: Φ, (n, k).
        mean: (k,).
        covariance: (k, k).
        prior_covariance: (k, k).
        injected_noise: γ, not negative; positive wherever n > k.

    Raises:
        TypeError: for what is no tensor or number.
        ValueError: for negative noise, other shapes, numbers that are not finite, or a covariance of function values
            that is not positive definite.
    """
    within(NOT_NEGATIVE, injected_noise=injected_noise)
    named = {"features": features, "mean": mean, "covariance": covariance, "prior_covariance": prior_covariance}
    k = features.shape[-1:]
    if features.ndim != 2 or [t.shape for t in named.values()][1:] != [k, 2 * k, 2 * k]:
        found = ", ".join(f"{name} {tuple(t.shape)}" for name, t in named.items())
        raise ValueError(f"features must have shape (n, k), a mean (k,) and covariances (k, k): got {found}")
    real("...", features=features, mean=mean, covariance=covariance, prior_covariance=prior_covariance)
    eye = injected_noise**2 * torch.eye(len(features), dtype=features.dtype, device=features.device)
    L, L0 = (
        cholesky(
            features @ S @ features.mT + eye, f"features @ {name} @ features' must be positive definite: {UNDEFINED}"
        )
        for name, S in (("covariance", covariance), ("prior_covariance", prior_covariance))
    )
    return kl_of_factors(features @ mean, L, torch.zeros_like(features[:, 0]), L0)
