"""Slow, obvious versions of the spectral Stein estimator, the piecewise priors and the KL between Gaussians."""

import math

import numpy as np
import torch
from torch import Tensor


def stein_score(samples: Tensor, queries: Tensor, width: Tensor, count: int) -> Tensor:
    """The estimator straight from its definition: eigenfunctions as functions, their gradients by autograd."""
    n, d = samples.shape

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-0.5 * (((a - b) / width) ** 2).sum())

    gram = torch.stack([torch.stack([kernel(a, b) for b in samples]) for a in samples])
    values, vectors = np.linalg.eigh(gram.numpy())
    order = np.argsort(-values)[:count]

    def eigenfunction(y: Tensor, j: int) -> Tensor:
        terms = [kernel(y, samples[m]) * float(vectors[m, j]) for m in range(n)]
        return math.sqrt(n) / float(values[j]) * sum(terms)

    estimate = torch.zeros_like(queries)
    for j in order:
        coefficient = torch.zeros(d, dtype=samples.dtype)
        for m in range(n):
            x = samples[m].clone().requires_grad_()
            coefficient -= torch.autograd.grad(eigenfunction(x, j), x)[0] / n
        for i, y in enumerate(queries):
            estimate[i] += coefficient * eigenfunction(y, j)
    return estimate


def stein_gradient_with_all_eigenfunctions(samples: Tensor, width: Tensor) -> Tensor:
    """The Stein gradient estimator of Li and Turner, −K⁻¹ G, which the spectral one is with J = M."""
    n = len(samples)
    gram, slope = torch.zeros(n, n, dtype=samples.dtype), torch.zeros_like(samples)
    for a in range(n):
        for b in range(n):
            gram[a, b] = torch.exp(-0.5 * (((samples[a] - samples[b]) / width) ** 2).sum())
    for b in range(n):
        for a in range(n):  # the derivative in the first argument
            slope[b] += -gram[a, b] * (samples[a] - samples[b]) / width**2
    return -torch.linalg.solve(gram, slope)


def gaussian_kl_by_sampling(
    mean, covariance, prior_mean, prior_covariance, draws: int, seed: int
) -> tuple[float, float]:
    """Mean and standard error of log q − log p over draws from q."""
    q = torch.distributions.MultivariateNormal(mean, covariance)
    p = torch.distributions.MultivariateNormal(prior_mean, prior_covariance)
    z = torch.randn(draws, len(mean), dtype=mean.dtype, generator=torch.Generator().manual_seed(seed))
    f = mean + z @ torch.linalg.cholesky(covariance).T
    ratio = q.log_prob(f) - p.log_prob(f)
    return ratio.mean().item(), ratio.std().item() / math.sqrt(draws)
