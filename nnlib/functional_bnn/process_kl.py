"""How far apart are two random functions? KL on finite sets of inputs, in closed form where both are Gaussian.

Paper: arXiv 1903.05779, section 2.2 and theorem 1. Chapter: book/functional_bnn.ipynb.
"""

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from nnlib.functional_bnn.gp import gram


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
        torch.linalg.LinAlgError: where a covariance is not positive definite: the KL is then infinite or undefined.
    """
    factor, prior_factor = torch.linalg.cholesky(covariance), torch.linalg.cholesky(prior_covariance)
    ratio = torch.linalg.solve_triangular(prior_factor, factor, upper=False)
    shift = torch.linalg.solve_triangular(prior_factor, (prior_mean - mean)[:, None], upper=False)
    log_dets = 2 * (prior_factor.diagonal().log().sum() - factor.diagonal().log().sum())
    return 0.5 * (ratio.square().sum() + shift.square().sum() - len(mean) + log_dets)


def process_kl(q: Kernel, p: Kernel, x: Tensor, injected_noise: float = 0.0) -> Tensor:
    """KL between the marginals at x of two Gaussian processes of mean 0, both with noise γ² I added.

    The KL of the processes is the supremum over all finite sets x, so each value is a lower bound of it, and adding a
    point never lowers it.

    Args:
        q: Kernel of the first process.
        p: Kernel of the second.
        x: (n, d), different points.
        injected_noise: γ.

    Source: arXiv 1903.05779, theorem 1 and equation 3. Chapter: book/functional_bnn.ipynb.

    >>> from gpytorch.kernels import RBFKernel
    >>> wide, narrow = RBFKernel().double(), RBFKernel().double()
    >>> narrow.lengthscale = 0.3
    >>> x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    >>> [round(process_kl(narrow, wide, x[:n]).item(), 3) for n in (1, 2, 3)]
    [0.0, 0.074, 0.179]
    """
    eye = injected_noise**2 * torch.eye(len(x), dtype=x.dtype, device=x.device)
    zero = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    return gaussian_kl(zero, gram(q, x) + eye, zero, gram(p, x) + eye)


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
        injected_noise: γ, positive wherever n > k.
    """
    eye = injected_noise**2 * torch.eye(len(features), dtype=features.dtype, device=features.device)
    q, p = (features @ s @ features.mT + eye for s in (covariance, prior_covariance))
    return gaussian_kl(features @ mean, q, torch.zeros_like(features[:, 0]), p)
