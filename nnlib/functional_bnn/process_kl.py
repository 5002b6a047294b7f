"""How far apart are two random functions? KL on finite sets of inputs, in closed form where both are Gaussian.

Paper: arXiv 1903.05779, section 2.2 and theorem 1. Chapter: book/functional_bnn.ipynb.
"""

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from nnlib.arguments import within
from nnlib.bayes import gaussian_kl
from nnlib.functional_bnn.gp import gram


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
        ValueError: for negative noise, or a covariance that is not positive definite: without noise where points
            coincide.

    Source: arXiv 1903.05779, theorem 1 and equation 3. Chapter: book/functional_bnn.ipynb.

    >>> from gpytorch.kernels import RBFKernel
    >>> wide, narrow = RBFKernel().double(), RBFKernel().double()
    >>> narrow.lengthscale = 0.3
    >>> x = torch.tensor([[0.0], [1.0], [2.0]], dtype=torch.float64)
    >>> [round(process_kl(narrow, wide, x[:n]).item(), 3) for n in (1, 2, 3)]
    [0.0, 0.074, 0.179]
    """
    within("[0, inf)", injected_noise=injected_noise)
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
        injected_noise: γ, not negative; positive wherever n > k.

    Raises:
        ValueError: for negative noise, or a covariance of function values that is not positive definite.
    """
    within("[0, inf)", injected_noise=injected_noise)
    eye = injected_noise**2 * torch.eye(len(features), dtype=features.dtype, device=features.device)
    q, p = (features @ s @ features.mT + eye for s in (covariance, prior_covariance))
    return gaussian_kl(features @ mean, q, torch.zeros_like(features[:, 0]), p)
