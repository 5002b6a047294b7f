"""Whose step goes farther? Two inverses, the length of a step, and what the KL clip bounds: one run a row.

Between layers: arXiv 1503.05671, section 4.3; lengths: sections 6.4 and 7. Chapter: ``book/curvature.ipynb``.
"""

from math import nan
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.curvature import KFAC, NotPositiveDefinite, chain, dense_fisher, layer_index, step_sizes
from nnlib.models import MLP
from tenpapers.curvature.measure import decrease_share, relative_error
from tenpapers.curvature.workloads import LAYERS, network
from tenpapers.data import load

INVERSES = ("block-diagonal", "block-tridiagonal")
LENGTHS = ("1", "best", "best, with momentum")
KAPPA = 1e-3


def measure_inverses(damping: float, steps: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """How near are approximate inverses to that of the whole damped Fisher matrix, and what do their steps bring?

    Args:
        damping: Exact for the matrix itself and its own blocks, factored for the two of K-FAC.
        steps: Of the small network's training.
        seed: Of the network.

    Returns:
        A row for each ``method``: ``error``, of the inverse, relative; ``share`` of the best decrease, of a whole step.

    Chapter: ``book/curvature.ipynb``.
    """
    model, x, y = network(steps, seed)
    index = torch.cat([layer_index(model, name) for name in LAYERS])
    loss = nn.functional.cross_entropy(model(x), y)
    g = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])[index]
    exact = dense_fisher(model, x)[index][:, index]
    M = exact + damping * torch.eye(len(g), dtype=g.dtype)
    inverse, rows = torch.linalg.inv(M), []
    for method, found in inverses(model, x, damping).items():
        u = found @ g
        share = decrease_share(u, g, M).item()
        rows.append({"method": method, "error": relative_error(found, inverse), "share": share})
    return rows


def inverses(model: nn.Module, x: Tensor, damping: float) -> dict[str, Tensor]:
    """Three approximate inverses of the damped Fisher matrix, dense and in the order of the layers, by method."""
    found = chain(model, x).damped(damping)
    own, start, whole = [], 0, dense_fisher(model, x)
    index = torch.cat([layer_index(model, name) for name in found.names])
    whole = whole[index][:, index]
    for block in found.blocks:
        size = block.shape[0] * block.shape[1]
        part = whole[start : start + size, start : start + size]
        own.append(torch.linalg.inv(part + damping * torch.eye(size, dtype=part.dtype)))
        start += size
    solver, shapes = found.inverse(), [block.shape for block in found.blocks]
    columns = []
    for unit in torch.eye(start, dtype=whole.dtype):
        pieces = unit.split([a * b for a, b in shapes])
        V = {name: piece.view(shape) for name, piece, shape in zip(found.names, pieces, shapes, strict=True)}
        columns.append(torch.cat([part.flatten() for part in solver.solve(V).values()]))
    return {
        "exact blocks": torch.block_diag(*own),
        "block-diagonal": torch.block_diag(*(block.cholesky().inverse().dense() for block in found.blocks)),
        "block-tridiagonal": torch.stack(columns, 1),
    }


def measure_training(
    inverse: str, length: str, damping: float, adapted: bool, steps: int = 30, seed: int = 0
) -> dict[str, float]:
    """Train the small network from its start on all of its examples, by steps of one inverse and one rule of length.

    Args:
        inverse: One of ``INVERSES``.
        length: One of ``LENGTHS``: steps as they are, as long as the quadratic model with the exact Fisher matrix says
            is best, or with the last step as a second direction.
        damping: Of the inverse and of the quadratic model, at the start.
        adapted: Whether it is halved after a step that brings more than three quarters of the decrease that the
            quadratic model promised, and doubled where it brings less than one quarter (Levenberg-Marquardt).
        steps: Number of them.
        seed: Of the initialisation.

    Returns:
        ``loss`` at the end, its logarithm to base 10, ``log_loss``, ``alpha``, the median multiple of the inverse's own
        step, and the last ``left``, the damping; all nan where the run diverged until a factor had no inverse.

    Chapter: ``book/curvature.ipynb``.
    """
    _, x, y = network(0, seed)
    model = MLP([9, 6, 6, 4], seed=seed, dtype=torch.float64)
    parameters, last, alphas = list(model.parameters()), None, []
    loss = nn.functional.cross_entropy(model(x), y)
    for _ in range(steps):
        g = torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)])  # (P,)
        try:
            directions = -preconditioned(model, x, g, inverse, damping)[None]  # (1, P)
        except NotPositiveDefinite:
            return {"loss": nan, "log_loss": nan, "alpha": nan, "left": nan}
        if last is not None:
            directions = torch.cat([directions, last[None]])  # (2, P)
        c = step_sizes(model, x, g, directions, damping=damping) if length != "1" else torch.ones(1, dtype=g.dtype)
        step = c @ directions
        # Along the step v the model's minimum is at c*, so that v'(F + damping I)v = -g'v / c*.
        slope = g @ step
        promised = slope - slope / step_sizes(model, x, g, step[None], damping=damping)[0] / 2
        with torch.no_grad():
            for p, piece in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
                p += piece.view_as(p)
        before, loss = loss.item(), nn.functional.cross_entropy(model(x), y)
        ratio = (loss.item() - before) / promised.item()
        if adapted:
            damping *= 0.5 if ratio > 0.75 else 2 if ratio < 0.25 else 1
        alphas.append(c[0].item())
        last = step if length == "best, with momentum" else None
    return {
        "loss": loss.item(),
        "log_loss": loss.log10().item(),
        "alpha": torch.tensor(alphas).median().item(),
        "left": damping,
    }


def preconditioned(model: nn.Module, x: Tensor, gradient: Tensor, inverse: str, damping: float) -> Tensor:
    """The damped inverse times the gradient, both (P,) in the order of ``model.parameters()``."""
    found = chain(model, x).damped(damping)
    places = {name: layer_index(model, name) for name in found.names}
    V = {n: gradient[places[n]].view(block.shape) for n, block in zip(found.names, found.blocks, strict=True)}
    if inverse == "block-tridiagonal":
        U = found.inverse().solve(V)
    else:
        U = {n: block.cholesky().solve(V[n]) for n, block in zip(found.names, found.blocks, strict=True)}
    result = torch.empty_like(gradient)
    for name, index in places.items():
        result[index] = U[name].flatten()
    return result


def measure_clip(momentum: float, steps: int = 60, batch_size: int = 512, seed: int = 0) -> dict[str, float]:
    """With the KL clip, how far does a step of K-FAC move the predictions on its own batch?

    The network 64-64-64-10 on digits with lr 0.3, damping 0.03 and ``kl_clip`` KAPPA.

    Returns:
        ``median`` and ``largest`` over the steps of KL(before || after) / KAPPA.

    Chapter: ``book/curvature.ipynb``.
    """
    train = load("digits").train
    x, y = train.x.double(), train.y
    model = MLP([64, 64, 64, 10], seed=seed, dtype=torch.float64)
    optimizer = KFAC(
        model, 0.3, 0.03, momentum=momentum, kl_clip=KAPPA, update_factors_every=1, update_inverses_every=5, seed=seed
    )
    generator, moved = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        batch = torch.randperm(len(x), generator=generator)[:batch_size]
        before = model(x[batch])
        optimizer.zero_grad()
        nn.functional.cross_entropy(before, y[batch]).backward()
        optimizer.step()
        with torch.no_grad():
            p, q = before.log_softmax(1), model(x[batch]).log_softmax(1)
            moved.append((p.exp() * (p - q)).sum(1).mean() / KAPPA)
    every = torch.stack(moved)
    return {"median": every.median().item(), "largest": every.max().item()}
