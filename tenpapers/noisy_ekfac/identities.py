"""What is exact about the posteriors and is computed here and now: evidence for the chapter's claims without a table.

Paper: arXiv 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.bayes import LinearGaussian
from nnlib.noisy_ekfac import EigenvalueCorrected, MatrixVariate, Rows
from tenpapers.claims import Evidence
from tenpapers.noisy_ekfac.measure import FISHERS, covariances, gap


def layer(seed: int, n: int = 300) -> tuple[Tensor, Tensor]:
    """Inputs, (n, 4), and gradients, (n, 3), of a layer, whose sizes depend on each other: no Kronecker product."""
    draw = torch.Generator().manual_seed(seed)
    x, ds = (torch.randn(n, k, generator=draw, dtype=torch.float64) for k in (4, 3))
    return x, ds * (0.2 + x[:, :1].abs())


def fisher_error(profile: str) -> Evidence:
    """By Pythagoras, how much nearer corrected eigenvalues are to the Fisher matrix than products, of five layers."""
    found: dict[str, float | bool] = {}
    for seed in range(5):
        x, ds = layer(seed)
        G = torch.einsum("bo,bi->boi", ds, x).flatten(1)
        F = G.T @ G / len(x)
        q = EigenvalueCorrected(torch.zeros(3, 4, dtype=F.dtype), len(x), decay=0.0)
        q.observe(Rows(x, ds))
        Q = torch.kron(q.basis.Q_S, q.basis.Q_A)
        corrected, products = (Q * values.flatten() @ Q.T for values in (q.R, q.products()))
        # What the products lose beside the corrected eigenvalues is the distance between the two.
        squares = [(a - b).square().sum() for a, b in ((F, products), (F, corrected), (products, corrected))]
        found[f"layer {seed}"] = ((squares[0] - squares[1] - squares[2]) / F.square().sum()).item()
        found[f"layer {seed}: nearer"] = bool(squares[1] < squares[0])
    return Evidence(found)


def gaps(*names: str) -> Evidence:
    """KL to the exact posterior of a regression with two weights, in nats, of each posterior."""
    found = covariances(0.9, 20, 1.0, 1.0)
    return Evidence({name: gap(found[name], found["Exact"]) for name in names})


def noisy_step(profile: str) -> Evidence:
    """The step of each posterior less the natural gradient of the evidence lower bound in the mean."""
    draw = torch.Generator().manual_seed(0)
    X, y, start, noise = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((30, 4), (30,), (1, 4), (1, 1, 4))
    )
    exact, noise, found = LinearGaussian(X, y, 0.5, 2.0), torch.cat([noise, -noise]), {}
    for name, kind in FISHERS.items():
        q = kind(start, 30, prior_variance=2.0, decay=0.0)
        q.observe(Rows(X, torch.full_like(y[:, None], exact.noise_variance**-0.5)))
        weights = q.sample(noise)  # a draw and its mirror image: their mean gradient is that of the expected loss
        gradient = (weights @ X.T - y) @ X / (30 * exact.noise_variance)  # (2, 1, 4)
        move, _ = q.propose(gradient, weights, noise, lr=0.1, damping_ex=0.0, momentum=0.0)
        mean, covariance = start[0].clone().requires_grad_(), q.covariance()
        (slope,) = torch.autograd.grad(exact.elbo(mean, covariance), mean)
        found[name] = (move[0] - 0.1 * covariance @ slope).abs().max().item()
    return Evidence(found)


def precision_step(profile: str) -> Evidence:
    """A step of the running average of noisy EK-FAC less the natural gradient of the bound in the precision.

    In a linear-Gaussian model the Fisher matrix is the negative Hessian at any weights. The precision moves by
    -2 beta times the bound's gradient in Sigma, at any rate beta.
    """
    draw = torch.Generator().manual_seed(0)
    X, y, mean = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((30, 4), (30,), (1, 4)))
    exact, found = LinearGaussian(X, y, 0.5, 2.0), {}
    for beta in (0.01, 0.3, 1.0):
        q = EigenvalueCorrected(mean, 30, prior_variance=2.0, decay=1 - beta)
        before = q.covariance().requires_grad_()
        (slope,) = torch.autograd.grad(exact.elbo(mean[0], before), before)
        q.observe(Rows(X, torch.full_like(y[:, None], exact.noise_variance**-0.5)))
        expected = torch.linalg.inv(before.detach()) - beta * (slope + slope.T)
        moved = torch.linalg.inv(q.covariance())
        found[f"beta {beta}"] = ((moved - expected).norm() / expected.norm()).item()
    return Evidence(found)


def split(a: Tensor, s: Tensor, n_data: int, kl_weight: float = 1.0) -> tuple[Tensor, Tensor, MatrixVariate]:
    """Variances under factored and exact damping, (out, in), of a layer whose factors have these eigenvalues."""
    found = []
    for kind in ("factored", "exact"):
        q = MatrixVariate(a.new_zeros(len(s), len(a)), n_data, kl_weight=kl_weight, damping_kind=kind)
        q.a, q.s = a, s
        found.append(q.variance()[1])
    return found[0], found[1], q


def cooling(profile: str) -> Evidence:
    """The ratio of the variances under both dampings, its bound, and what no temperature can do."""
    found: dict[str, float | bool] = {}
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        # Eigenvalues over four decades, and in each factor one that is zero.
        a, s = (10 ** (2 - 4 * torch.rand(k, generator=draw, dtype=torch.float64)) for k in (5, 3))
        a[0], s[0] = 0.0, 0.0
        factored, exact, q = split(a, s, n_data=50)
        root = q.damping_in**0.5
        pi = ((a.mean() + 1e-8) / (s.mean() + 1e-8)).sqrt()
        u, v = (a / (pi * root))[None, :], (pi * s / root)[:, None]
        ratio, p = factored / exact, u * v
        found[f"layer {seed}: (1 + uv) / ((1 + u)(1 + v))"] = (ratio - (1 + p) / ((1 + u) * (1 + v))).abs().max().item()
        found[f"layer {seed}: bound"] = bool((ratio <= (1 + p) / (1 + p.sqrt()).square() + 1e-12).all())
        idle = p == 0  # the data say nothing here: exact damping leaves the prior's variance at any temperature
        for tau in (1.0, 0.5, 0.1):
            found[f"layer {seed}: prior at {tau}"] = (split(a, s, 50, tau)[1][idle] - 1).abs().max().item()
        found[f"layer {seed}: below the prior"] = bool((factored[idle & (u + v > 0)] < 1).all())
        excess = [root * (3 * a.sum() / (pi * share) + 5 * pi * share * s.sum()) for share in (0.5, 1.0, 2.0)]
        found[f"layer {seed}: least excess"] = bool(excess[1] < min(excess[0], excess[2]))
        spent = (1 / factored - 1 / exact).sum() / 50
        found[f"layer {seed}: excess"] = ((spent - excess[1]) / excess[1]).item()
    return Evidence(found)
