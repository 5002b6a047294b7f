"""Slow, obvious versions of the posteriors: dense matrices from per-example gradients."""

import torch


def gradients(x, ds):
    """vec(ds_b x_b'), row-major, one row an example: (B, out in)."""
    return torch.stack([torch.outer(g, a).flatten() for a, g in zip(x, ds, strict=True)])


def fisher(x, ds):
    G = gradients(x, ds)
    return G.T @ G / len(G)


def factors(x, ds):
    """S (x) A."""
    return torch.kron(ds.T @ ds / len(ds), x.T @ x / len(x))


def dense_kl(mean, covariance, prior_variance):
    """KL[N(mean, covariance) || N(0, prior_variance I)] by torch.distributions."""
    q = torch.distributions.MultivariateNormal(mean, covariance)
    eye = torch.eye(len(mean), dtype=mean.dtype)
    p = torch.distributions.MultivariateNormal(torch.zeros_like(mean), prior_variance * eye)
    return torch.distributions.kl_divergence(q, p)


def factored_covariance(A, S, n_data, prior_variance, kl_weight):
    """kl_weight / n_data times the inverse of (S + sqrt(d)/pi I) (x) (A + pi sqrt(d) I)."""
    d = kl_weight / (n_data * prior_variance)
    pi = ((A.trace() / len(A)) / (S.trace() / len(S))) ** 0.5
    left = S + d**0.5 / pi * torch.eye(len(S), dtype=S.dtype)
    right = A + pi * d**0.5 * torch.eye(len(A), dtype=A.dtype)
    return kl_weight / n_data * torch.linalg.inv(torch.kron(left, right))
