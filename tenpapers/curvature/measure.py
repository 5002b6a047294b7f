"""What is lost by an approximation of the Fisher matrix, and what does its direction bring? Every matrix written out.

Functions named ``measure_`` are runs: they give rows. Chapter: ``book/curvature.ipynb``.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from nnlib.curvature import dense_fisher, factors, layer_index, rescale
from tenpapers.curvature.workloads import LAYERS, network, small_cnn, softmax_regression
from tenpapers.data import load

SLOPES, OFFSETS = np.linspace(-1, 5, 9), np.linspace(-3, 5, 9)
DIRECTIONS = ("gradient", "natural gradient", "empirical Fisher")
METHODS = ("K-FAC", "EKFAC", "diagonal", "gradient")
DAMPINGS = np.geomspace(1e-4, 10, 21)
ROUNDING = 1e-10  # of a relative error: a smaller one is none


def measure_directions(steps: int = 20, damping: float = 0.03, seed: int = 0) -> list[dict[str, Any]]:
    """How far each approximation is from a layer's Fisher block, and how good its direction is all the same.

    Args:
        steps: Of the small network's training.
        damping: Added to the approximation and to the block.
        seed: Of the network.

    Returns:
        A row for each layer and method: ``layer``, ``method``, ``error``, relative to the block's norm (the gradient
        stands for the zero matrix), and ``share`` of the best decrease.

    Chapter: ``book/curvature.ipynb``.
    """
    model, x, y = network(steps, seed)
    loss = nn.functional.cross_entropy(model(x), y)
    gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
    rows = []
    for layer, found in approximations(model, x).items():
        F, g = found["Fisher"], gradient[layer_index(model, layer)]
        damp = damping * torch.eye(len(g), dtype=g.dtype)
        for method in METHODS:
            C = found.get(method, torch.zeros_like(F))
            share = decrease_share(torch.linalg.solve(C + damp, g), g, F + damp)
            error = relative_error(C, F)
            rows.append({"layer": LAYERS[layer], "method": method, "error": error, "share": share.item()})
    return rows


def measure_dependence(scale: float, seed: int = 0) -> dict[str, float]:
    """Relative errors of K-FAC and EKFAC where gradients depend on inputs, the more so the surer the model is.

    Returns:
        ``kfac``, ``ekfac``, and ``correlation`` of |x|^2 and E|ds|^2 over the examples (nan where the latter is
        constant).

    Chapter: ``book/curvature.ipynb``.
    """
    found = curvatures(scale, seed)
    errors = [relative_error(found[name], found["Fisher"]) for name in ("K-FAC", "EKFAC")]
    kfac, ekfac = (error if error > ROUNDING else 0.0 for error in errors)
    return {"kfac": kfac, "ekfac": ekfac, "correlation": correlation(scale, seed)}


def measure_convolution(examples: int = 64, seed: int = 0) -> dict[str, float]:
    """Relative errors of three approximations of a random convolution's Fisher block, on digits.

    Args:
        examples: Digits; other ones for each seed.
        seed: Of the weights.

    Returns:
        ``kfc``, ``corrected`` (with EKFAC's eigenvalues) and ``diagonal``.

    Chapter: ``book/curvature.ipynb``.
    """
    x = load("digits").train.x[examples * seed : examples * (seed + 1)].double()
    model = small_cnn(seed)
    index = layer_index(model, "0")
    exact = dense_fisher(model, x)[index][:, index]
    block = factors(model, x, layers=["0"])["0"]
    corrected = rescale(model, x, {"0": block.eigen()})["0"]
    matrices = {"kfc": block.dense(), "corrected": corrected.dense(), "diagonal": exact.diagonal().diag()}
    return {name: relative_error(matrix, exact) for name, matrix in matrices.items()}


def measure_fields(seed: int = 0) -> list[dict[str, Any]]:
    """By how much does each direction of :func:`fields` miss the optimum, and where are its steps short?

    Returns:
        A row for each direction: ``direction``; ``mean_angle`` and ``largest_angle`` between it and the way to the
        optimum, in degrees, over the grid; ``longest``, the largest length of a step over the distance; ``order``,
        Spearman's correlation of this ratio and the loss, over the grid (nan where all ratios are the same).

    Chapter: ``book/curvature.ipynb``.
    """
    found = fields(seed)
    towards = found["optimum"] - found["theta"]  # (81, 2)
    distance, rows = np.linalg.norm(towards, axis=1), []
    for name in DIRECTIONS:
        step = found[name]
        length = np.linalg.norm(step, axis=1)
        a, b = step / length[:, None], towards / distance[:, None]
        # Not the arc cosine of a'b, which turns rounding into 1e-6 degrees where the directions are the same.
        angle = np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)))
        ratio = (length / distance).round(9)  # the natural gradient's are 1, but for rounding
        order = float("nan") if np.ptp(ratio) == 0 else float(spearmanr(ratio, found["loss"]).statistic)
        rows.append({"direction": name, "mean_angle": float(angle.mean()), "largest_angle": float(angle.max())})
        rows[-1] |= {"longest": float(ratio.max()), "order": order}
    return rows


def approximations(model: nn.Module, x: Tensor) -> dict[str, dict[str, Tensor]]:
    """Each layer's block of the Fisher matrix and three stand-ins for it, as dense matrices.

    Returns:
        By layer: ``Fisher``, ``K-FAC``, ``EKFAC``, ``diagonal``, each (out in, out in).
    """
    whole = dense_fisher(model, x)
    blocks = factors(model, x)
    rescaled = rescale(model, x, {name: block.eigen() for name, block in blocks.items()})
    found = {}
    for name, block in blocks.items():
        index = layer_index(model, name)
        exact = whole[index][:, index]
        found[name] = {
            "Fisher": exact,
            "K-FAC": block.dense(),
            "EKFAC": rescaled[name].dense(),
            "diagonal": exact.diagonal().diag(),
        }
    return found


def relative_error(approximation: Tensor, exact: Tensor) -> float:
    """|approximation - exact| / |exact| in the Frobenius norm; 1 is what the zero matrix would have."""
    return float((approximation - exact).norm() / exact.norm())


def decrease_share(u: Tensor, g: Tensor, M: Tensor) -> Tensor:
    """What a direction u brings of the largest decrease of -g'v + v'Mv / 2, if its length is the best one.

    Along u that is (g'u)^2 / (2 u'Mu), and over all directions g' M^-1 g / 2: the ratio is the squared cosine of the
    angle between u and M^-1 g in the metric M.

    Args:
        u: Direction, (P,) or one a column, (P, n).
        g: Gradient, of the same shape.
        M: Damped curvature, (P, P), positive definite.

    Returns:
        In [0, 1]; a scalar or (n,).
    """
    best = (g * torch.linalg.solve(M, g)).sum(0)
    return (g * u).sum(0) ** 2 / ((u * (M @ u)).sum(0) * best)


@lru_cache
def curvatures(confidence: float, seed: int = 0) -> dict[str, Tensor]:
    """The Fisher matrix, K-FAC, EKFAC and diagonal of :func:`softmax_regression`, (9, 9) each."""
    model, x = softmax_regression(confidence, seed)
    index = layer_index(model, "0")
    exact = dense_fisher(model, x)[index][:, index]
    block = factors(model, x)["0"]
    ekfac = rescale(model, x, {"0": block.eigen()})["0"]
    return {"Fisher": exact, "K-FAC": block.dense(), "EKFAC": ekfac.dense(), "diagonal": exact.diagonal().diag()}


@lru_cache
def correlation(confidence: float, seed: int = 0) -> float:
    """Over examples, between |x|^2 (with the 1 of the bias) and E|ds|^2; nan where the latter is constant."""
    model, x = softmax_regression(confidence, seed)
    p = model(x).detach().softmax(1)
    pair = torch.stack([x.square().sum(1) + 1, 1 - p.square().sum(1)])
    return float("nan") if pair[1].std() < 1e-9 else float(torch.corrcoef(pair)[0, 1])


@lru_cache
def shares(confidence: float) -> dict[str, np.ndarray]:
    """:func:`decrease_share` of each direction (C + damping I)^-1 g, C the approximation, by damping.

    Averaged over 50 random g from N(0, F), as the gradients of small batches are.
    """
    found = curvatures(confidence)
    exact, eye = found["Fisher"], torch.eye(9, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(exact)
    normal = torch.randn(9, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # The symmetric root: unlike the eigenvectors, it is unique where eigenvalues coincide.
    g = vectors @ (values.clamp(min=0).sqrt()[:, None] * (vectors.T @ normal))  # (9, 50)
    result: dict[str, list[float]] = {name: [] for name in METHODS}
    for damping in DAMPINGS:
        M = exact + damping * eye
        for name, got in result.items():
            u = g if name == "gradient" else torch.linalg.solve(found[name] + damping * eye, g)
            got.append(float(decrease_share(u, g, M).mean()))
    return {name: np.array(got) for name, got in result.items()}


@lru_cache
def fields(seed: int = 0) -> dict[str, np.ndarray]:
    """Directions at a grid of slopes and offsets of f(x) = slope x + offset, fitted to 200 points by least squares.

    Args:
        seed: Of the points: x is uniform on [-1, 3], y is 2 x + 1 plus normal noise of variance 1.

    Returns:
        ``theta`` (81, 2), the descent directions by their names (81, 2), ``optimum`` (2,) and ``loss`` (81,).
    """
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(200, 1, generator=generator, dtype=torch.float64) - 1
    y = 2 * x + 1 + torch.randn(200, 1, generator=generator, dtype=torch.float64)
    model = nn.Linear(1, 1, dtype=torch.float64, device="cpu")
    grid = torch.cartesian_prod(torch.tensor(SLOPES), torch.tensor(OFFSETS))  # (81, 2)
    found: dict[str, list[Tensor]] = {name: [] for name in (*DIRECTIONS, "loss")}
    for slope, offset in grid:
        with torch.no_grad():
            model.weight.fill_(slope)
            model.bias.fill_(offset)
            residual = model(x) - y
        inputs = torch.cat([x, torch.ones_like(x)], 1)  # (200, 2)
        g = (residual * inputs).mean(0)
        true = dense_fisher(model, x, "gaussian")
        empirical = dense_fisher(model, x, "gaussian", y)
        found["gradient"].append(-g)
        found["natural gradient"].append(-torch.linalg.solve(true, g))
        found["empirical Fisher"].append(-torch.linalg.solve(empirical, g))
        found["loss"].append(residual.square().mean() / 2)
    optimum = torch.linalg.lstsq(inputs, y).solution[:, 0]
    result = {name: torch.stack(values).numpy() for name, values in found.items()}
    return result | {"theta": grid.numpy(), "optimum": optimum.numpy()}
