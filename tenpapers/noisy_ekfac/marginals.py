"""How wide is the posterior of each weight of a small network, and what do four Gaussians say?

Ten inputs, five tanh units, one output: 61 weights; 500 targets of a random network with known noise, enough for the
chains to stay at one of the mirror images of the mode and to agree. At the mode each posterior gets the Fisher matrix
itself, layer by layer. Beside them: the inverse of the dense Fisher matrix, of a layer and of the whole network, and
Hamiltonian Monte Carlo. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nnlib.noisy_ekfac import METHODS, Rows
from tenpapers.noisy_ekfac.hmc import disagreement, hamiltonian

SIZES = (10, 5, 1)
NOISE = 0.1  # standard deviation; the prior's is 1
SHAPES = tuple((n_out, n_in + 1) for n_in, n_out in pairwise(SIZES))
POSTERIORS: dict[str, tuple[str, dict[str, Any]]] = {
    "Noisy Adam": ("Noisy Adam", {}),
    "Noisy K-FAC": ("Noisy K-FAC", {}),
    "Noisy K-FAC, exact damping": ("Noisy K-FAC", {"damping_kind": "exact"}),
    "Noisy EK-FAC": ("Noisy EK-FAC", {}),
}


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def network(w: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (..., n) and hidden units (..., n, 5) of the network with the weights w, (..., 61), at x, (n, 10)."""
    size = SHAPES[0][0] * SHAPES[0][1]
    W, V = w[..., :size].unflatten(-1, SHAPES[0]), w[..., size:]
    h = (with_ones(x) @ W.mT).tanh()
    return (with_ones(h) @ V[..., None])[..., 0], h


def problem(seed: int, n: int = 500) -> tuple[Tensor, Tensor, Tensor]:
    """Random weights, (61,), correlated inputs, (n, 10), and targets, (n,)."""
    g = torch.Generator("cpu").manual_seed(seed)
    draw = {"generator": g, "dtype": torch.float64, "device": "cpu"}
    w = torch.randn(sum(a * b for a, b in SHAPES), **draw)
    w[-SHAPES[1][1] : -1] += w[-SHAPES[1][1] : -1].sign()  # each unit matters: else the mode is no peak but a ridge
    x = (torch.randn(n, SIZES[0], **draw) + torch.randn(n, 1, **draw)) / 2  # every two inputs have a correlation of 1/2
    return w, x, network(w, x)[0] + NOISE * torch.randn(n, **draw)


def log_posterior(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """log p(y | w) + log p(w) without constants, (...), of weights (..., 61)."""
    return -((y - network(w, x)[0]) / NOISE).square().sum(-1) / 2 - w.square().sum(-1) / 2


def mode(start: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The mode of the posterior that L-BFGS comes to from these weights."""
    w = start.clone().requires_grad_()
    options = {"max_iter": 3000, "tolerance_grad": 1e-9, "tolerance_change": 0.0, "line_search_fn": "strong_wolfe"}
    descent = torch.optim.LBFGS([w], history_size=60, **options)

    def loss() -> Tensor:
        descent.zero_grad()
        value = -log_posterior(w, x, y)
        value.backward()
        return value

    descent.step(loss)  # pyright: ignore[reportArgumentType]
    return w.detach()


def statistics(w: Tensor, x: Tensor) -> list[Rows]:
    """Each layer's inputs and gradients of log p at its outputs, scaled so that their squares are those of the Fisher
    matrix: with one output and known noise the targets need not be drawn."""
    h = network(w, x)[1]
    V = w[-SHAPES[1][1] : -1]
    ones = torch.ones_like(h[:, :1])
    return [Rows(with_ones(x), (1 - h.square()) * V / NOISE), Rows(with_ones(h), ones / NOISE)]


def deviations(seed: int, chains: int = 8, warm_up: int = 200, samples: int = 1000) -> list[dict[str, Any]]:
    """The marginal standard deviation of each weight by each posterior and each reference.

    Args:
        seed: Of weights, inputs, targets and chains.
        chains: Of Hamiltonian Monte Carlo, all started at the mode.
        warm_up: Draws of a chain that are not kept.
        samples: Draws of a chain that are.

    Returns:
        A row for each weight: ``weight`` (0 to 60), ``layer`` (0 or 1), a column for each of ``POSTERIORS``, ``block``
        and ``fisher`` (inverse of the layer's and of the network's Fisher matrix with the prior), ``hmc``, and
        ``rhat``, how much the chains disagree.
    """
    start, x, y = problem(seed)
    w, n = mode(start, x, y), len(x)
    found: dict[str, list[Tensor]] = {name: [] for name in (*POSTERIORS, "block")}
    gradients, first = [], 0
    for rows, shape in zip(statistics(w, x), SHAPES, strict=True):
        size = shape[0] * shape[1]
        for name, (method, options) in POSTERIORS.items():
            q = METHODS[method](w[first : first + size].view(shape), n, decay=0.0, **options)
            q.observe(rows)
            found[name].append(q.covariance().diagonal().sqrt())
        gradients.append(torch.einsum("bo,bi->boi", rows.ds, rows.x).flatten(1))
        found["block"].append(covariance(gradients[-1]).diagonal().sqrt())
        first += size
    whole = covariance(torch.cat(gradients, 1))
    draws = hamiltonian(
        lambda weights: log_posterior(weights, x, y),
        w.expand(chains, -1),
        torch.linalg.cholesky(whole),
        samples=samples,
        warm_up=warm_up,
        generator=torch.Generator("cpu").manual_seed(seed),
    )
    columns = {name: torch.cat(parts) for name, parts in found.items()}
    columns |= {"fisher": whole.diagonal().sqrt(), "hmc": draws.flatten(0, 1).std(0), "rhat": disagreement(draws)}
    layers = [layer for layer, (n_out, n_in) in enumerate(SHAPES) for _ in range(n_out * n_in)]
    return [
        {"weight": i, "layer": layers[i]} | {name: float(values[i]) for name, values in columns.items()}
        for i in range(len(w))
    ]


def covariance(gradients: Tensor) -> Tensor:
    """(G'G + I)^-1 of scaled gradients G, (n, d): the inverse Fisher matrix of all examples, with the prior."""
    eye = torch.eye(gradients.shape[1], dtype=gradients.dtype, device=gradients.device)
    return torch.linalg.inv(gradients.T @ gradients + eye)
