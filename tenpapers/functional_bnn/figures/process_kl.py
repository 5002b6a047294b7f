"""What does the KL between two processes see? It grows with every point, and without bound for a family too small."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from gpytorch.kernels import MaternKernel
from plotly.subplots import make_subplots

from nnlib.functional_bnn.gp import gram
from nnlib.functional_bnn.process_kl import gaussian_kl
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number

MOST = 10
FAMILIES = ("rougher process", "three features")
Q, P = COLORS["BCOP"], COLORS["neutral"]


def points() -> torch.Tensor:
    """Ten points in (0, 4), each new one far from the others: (10, 1)."""
    golden = (5**0.5 - 1) / 2
    return 4 * ((0.3 + golden * torch.arange(MOST, dtype=torch.float64)) % 1)[:, None]


def covariance(family: str, x: torch.Tensor) -> torch.Tensor:
    """Of the process q at x: Matérn ½ where the prior is Matérn 3/2, or a random parabola."""
    if family == "three features":
        phi = torch.cat([torch.ones_like(x), x - 2, (x - 2) ** 2 / 2], 1)
        return phi @ phi.mT / 2
    return gram(_matern(0.5), x)


@lru_cache
def _matern(nu: float) -> MaternKernel:
    return MaternKernel(nu=nu).double().initialize(lengthscale=1.0).requires_grad_(False)


@lru_cache
def values(family: str, injected_noise: float) -> list[float]:
    """KL at the first 1, ..., 10 points."""
    found = []
    for n in range(1, MOST + 1):
        x = points()[:n]
        eye, zero = injected_noise**2 * torch.eye(n).double(), torch.zeros(n).double()
        found.append(gaussian_kl(zero, covariance(family, x) + eye, zero, gram(_matern(1.5), x) + eye).item())
    return found


@lru_cache
def curves(family: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid, three functions of q and three of the prior."""
    grid = torch.linspace(0, 4, 81, dtype=torch.float64)[:, None]
    noise = torch.randn(3, 81, generator=torch.Generator("cpu").manual_seed(4), dtype=torch.float64)
    drawn = []
    for matrix in (covariance(family, grid), gram(_matern(1.5), grid)):
        drawn.append((noise @ torch.linalg.cholesky(matrix + 1e-6 * torch.eye(81).double()).mT).numpy())
    return grid[:, 0].numpy(), *drawn


def what_the_kl_sees(count: int = 3, injected_noise: float = 0.1, family: str = "rougher process") -> go.Figure:
    """Two processes, the points at which they are compared, and the KL at the first points.

    Args:
        count: Number of points, 1 to 10.
        injected_noise: γ, added to both.
        family: One of ``FAMILIES``: what q is.
    """
    grid, q, p = curves(family)
    bars = values(family, injected_noise)[:count]
    titles = ["three functions of each", "KL at the first points"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.14)
    for functions, name, color, dash in ((p, "prior p", P, "4px,3px"), (q, "q", Q, "solid")):
        for i, f in enumerate(functions):
            line = {"color": color, "width": 1.5, "dash": dash}
            figure.add_scatter(
                x=grid, y=f.round(3), name=name, legendgroup=name, showlegend=i == 0, mode="lines", line=line, row=1,
                col=1,
            )  # fmt: skip
    at = points()[:count, 0].numpy().round(3)
    marker = {"color": COLORS["ReLU"], "symbol": "triangle-up", "size": 9}
    figure.add_scatter(x=at, y=[-3.4] * count, name="points", mode="markers", marker=marker, row=1, col=1)
    figure.add_bar(
        x=list(range(1, count + 1)), y=[round(v, 3) for v in bars], marker={"color": Q}, showlegend=False, row=1, col=2
    )
    figure.update_xaxes(title_text="x", range=[0, 4], row=1, col=1)
    figure.update_yaxes(title_text="f(x)", range=[-3.6, 3.6], row=1, col=1)
    figure.update_xaxes(title_text="number of points", range=[0.4, MOST + 0.6], dtick=1, row=1, col=2)
    figure.update_yaxes(title_text="KL (nats)", rangemode="tozero", row=1, col=2)
    figure.update_layout(height=400)
    return describe(
        figure,
        "fbnn-process-kl",
        alt=(
            f"Left: three functions of the prior, dashed, and three of q ({family}), with {count} points marked below. "
            f"Right: bars that never fall, the KL at the first 1 to {count} points, up to {number(bars[-1])} nats."
        ),
        summary=(
            f"q: {family}, noise γ = {number(injected_noise)}, {count} points: the KL is {number(bars[-1])} nats, a "
            "lower bound of that between the processes."
        ),
        narrow=stack(figure, 300),
    )
