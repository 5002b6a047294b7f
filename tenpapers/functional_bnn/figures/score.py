"""How good is a score that is estimated from samples? Bias with few eigenfunctions, variance with many."""

import math

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.functional_bnn import SpectralStein
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number

DENSITIES = {"one Gaussian": ((0.0, 1.0),), "mixture of two": ((-1.2, 0.6), (1.2, 0.6))}


def true_score(density: str, x: torch.Tensor) -> torch.Tensor:
    """∇ log of a mixture with equal weights."""
    parts = DENSITIES[density]
    logs = torch.stack([-0.5 * ((x - m) / s) ** 2 - math.log(s) for m, s in parts])
    slopes = torch.stack([-(x - m) / s**2 for m, s in parts])
    return (logs.softmax(0) * slopes).sum(0)


def draw(density: str, samples: int) -> torch.Tensor:
    """(samples, 1)."""
    normal = torch.randn(samples, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float64)
    parts = DENSITIES[density]
    return torch.stack([parts[i % len(parts)][0] + parts[i % len(parts)][1] * z for i, z in enumerate(normal)])[:, None]


def score_from_samples(density: str = "one Gaussian", samples: int = 100, eigenfunctions: int = 6) -> go.Figure:
    """The estimate beside the true score, and the eigenvalues with the cut.

    Args:
        density: A key of ``DENSITIES``.
        samples: M.
        eigenfunctions: J.
    """
    x = draw(density, samples)
    estimator = SpectralStein(x, eigenfunctions, "scalar" if density == "one Gaussian" else 0.8)
    grid = torch.linspace(-2.5, 2.5, 81, dtype=torch.float64)[:, None]
    true, found = true_score(density, grid)[:, 0], estimator.score(grid)[:, 0]
    inside = grid[:, 0].abs() <= 2
    error = (found - true)[inside].square().mean().sqrt().item()
    titles = ["score", "eigenvalues of the kernel"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.14)
    at = grid[:, 0].numpy().round(3)
    figure.add_scatter(
        x=at, y=true.numpy().round(3), name="true", mode="lines",
        line={"color": COLORS["neutral"], "dash": "4px,3px", "width": 2}, row=1, col=1,
    )  # fmt: skip
    figure.add_scatter(
        x=at, y=found.clamp(-9, 9).numpy().round(2), name="estimated", mode="lines",
        line={"color": COLORS["BCOP"], "width": 2}, row=1, col=1,
    )  # fmt: skip
    shown = x[:100, 0].numpy().round(2)
    figure.add_scatter(
        x=shown, y=[-7.6] * len(shown), name="samples", mode="markers",
        marker={"symbol": "line-ns-open", "size": 8, "color": COLORS["ReLU"]}, row=1, col=1,
    )  # fmt: skip
    share = (estimator.eigenvalues / estimator.eigenvalues.sum())[:14].numpy()
    colors = [COLORS["BCOP"] if j < estimator.count else "rgba(128,128,128,0.4)" for j in range(14)]
    figure.add_bar(
        x=list(range(1, 15)), y=np.maximum(share, 1e-8).round(8), marker={"color": colors}, showlegend=False, row=1,
        col=2,
    )  # fmt: skip
    figure.update_xaxes(title_text="x", row=1, col=1)
    figure.update_yaxes(title_text="d/dx log q", range=[-8, 8], row=1, col=1)
    figure.update_xaxes(title_text="eigenfunction j", row=1, col=2)
    figure.update_yaxes(title_text="share of all", type="log", dtick=2, range=[-8, 0.1], row=1, col=2)
    figure.update_layout(height=400)
    return describe(
        figure,
        "fbnn-score",
        alt=(
            f"Left: the true score of {density}, dashed, and the estimate from {samples} samples, which are marked "
            f"below. Right: the eigenvalues, falling, with the first {estimator.count} coloured: those are used."
        ),
        summary=(
            f"{density}, {samples} samples, {estimator.count} eigenfunctions: root mean squared error on (−2, 2) "
            f"{number(error, 2)}."
        ),
        narrow=stack(figure, 300),
    )
