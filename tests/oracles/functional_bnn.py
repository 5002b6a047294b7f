"""Slow, obvious versions: the Stein estimator, KL between Gaussians, cut normals, networks of kernels."""

import itertools
import math

import numpy as np
import scipy.integrate
import scipy.special
import scipy.stats
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


def entropy_lost_by_cutting(mean, sd, maxima) -> np.ndarray:
    """Entropy of N(mean, sd²) minus that of the same normal cut off above each maximum, averaged over the maxima."""
    lost = np.zeros(len(mean))
    for i, (m, s) in enumerate(zip(mean.tolist(), sd.tolist(), strict=True)):
        cut = []
        for top in maxima.tolist():
            inside = scipy.stats.norm.cdf(top, m, s)
            grid = np.linspace(m - 12 * s, min(top, m + 12 * s), 200_001)
            p = scipy.stats.norm.pdf(grid, m, s) / inside
            cut.append(-scipy.integrate.simpson(scipy.special.xlogy(p, p), x=grid))
        whole = 0.5 * math.log(2 * math.pi * math.e * s**2)
        lost[i] = whole - np.mean(cut)
    return lost


def neural_kernel(kernel, x: Tensor, z: Tensor) -> Tensor:
    """A network of kernels, one pair of inputs and one unit at a time, from its transformed parameters."""
    layers = []
    for sums in (*kernel.sums, kernel.last):
        weight = torch.nn.functional.softplus(sums.raw_weight).tolist()
        layers.append((weight, torch.nn.functional.softplus(sums.raw_bias).tolist()))
    found = torch.empty(len(x), len(z), dtype=x.dtype)
    for a, b in itertools.product(range(len(x)), range(len(z))):
        values = []
        for primitive in kernel.primitives:
            difference = x[a] - z[b]
            if primitive.has_lengthscale:
                squared = float(((difference / primitive.lengthscale[0]) ** 2).sum())
            if type(primitive).__name__ == "LinearKernel":
                values.append(float((x[a] * z[b] * primitive.variance[0]).sum()))
            elif type(primitive).__name__ == "RBFKernel":
                values.append(math.exp(-squared / 2))
            else:
                alpha = float(primitive.alpha)
                values.append((1 + squared / (2 * alpha)) ** -alpha)
        for number, (weight, bias) in enumerate(layers):
            values = [
                sum(w * v for w, v in zip(row, values, strict=True)) + c for row, c in zip(weight, bias, strict=True)
            ]
            if number < 2:
                values = [values[2 * i] * values[2 * i + 1] for i in range(len(values) // 2)]
        found[a, b] = values[0]
    return found
