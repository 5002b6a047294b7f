"""What does damping do to a step? A logistic regression with two weights, where the whole step can be drawn."""

from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn

from nnlib.curvature import dense_fisher, factors
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number

DAMPINGS = np.geomspace(1e-4, 10, 21)
STARTS = {"near": (1.5, 2.5), "saturated": (5.0, -3.0)}
STYLES: dict[str, dict[str, Any]] = {
    "exact Fisher": style("Natural gradient") | {"name": "exact Fisher", "legendgroup": "exact Fisher"},
    "K-FAC, eigen-damping": style("K-FAC-F") | {"name": "K-FAC, eigen-damping", "legendgroup": "eigen"},
    "K-FAC, factored": style("K-FAC") | {"name": "K-FAC, factored", "legendgroup": "factored"},
}
X_AXIS, Y_AXIS = np.linspace(-7, 8, 31), np.linspace(-9, 9, 31)


class Logistic(nn.Module):
    """Two classes from two inputs, logits (w'x, 0)."""

    def __init__(self, weight: tuple[float, float]):
        super().__init__()
        self.linear = nn.Linear(2, 1, bias=False, dtype=torch.float64, device="cpu")
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([weight]))

    def forward(self, x: Tensor) -> Tensor:
        logit = self.linear(x)  # (B, 1)
        return torch.cat([logit, torch.zeros_like(logit)], 1)


@lru_cache
def problem(stretch: float) -> tuple[Tensor, Tensor]:
    """200 points, the second input ``stretch`` times as wide as the first, and labels that depend on both: x, y."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    probability = torch.sigmoid(z @ torch.tensor([1.0, 1.5], dtype=torch.float64))  # of class 0
    y = (torch.rand(200, generator=generator, dtype=torch.float64) > probability).long()
    return z * torch.tensor([1.0, stretch], dtype=torch.float64), y


def loss(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy for weights (..., 2): (...)."""
    sign = 1 - 2 * y.double()  # +1 for class 0
    return nn.functional.softplus(-(weights @ x.T) * sign).mean(-1)


@lru_cache
def paths(stretch: float, start: str) -> dict[str, Tensor]:
    """The end of one whole step (lr = 1) from ``start`` for each of ``DAMPINGS``, (21, 2), by kind of damping."""
    x, y = problem(stretch)
    model = Logistic(STARTS[start])
    W = model.linear.weight.detach().clone()  # (1, 2)
    nn.functional.cross_entropy(model(x), y).backward()
    assert model.linear.weight.grad is not None
    g = model.linear.weight.grad.clone()  # (1, 2)
    F = dense_fisher(model, x)
    block = factors(model, x)["linear"]
    basis = block.eigen()
    eye = torch.eye(2, dtype=torch.float64)
    steps = {
        "exact Fisher": lambda damping: torch.linalg.solve(F + damping * eye, g[0])[None],
        "K-FAC, eigen-damping": lambda damping: basis.solve(g, damping),
        "K-FAC, factored": lambda damping: block.damped(damping).cholesky().solve(g),
    }
    return {name: torch.cat([W - step(damping) for damping in DAMPINGS]) for name, step in steps.items()}


@lru_cache
def _landscape(stretch: float) -> np.ndarray:
    x, y = problem(stretch)
    w = torch.cartesian_prod(torch.tensor(Y_AXIS), torch.tensor(X_AXIS)).flip(1)
    return np.log10(loss(w, x, y).reshape(31, 31).numpy())


def damping(strength: float = 0.1, stretch: float = 1.0, start: str = "saturated") -> go.Figure:
    """One step with more and more damping: where it ends, and the loss there.

    Args:
        strength: The damping, one of ``DAMPINGS`` up to rounding.
        stretch: How much wider the second input is than the first.
        start: A key of ``STARTS``.
    """
    x, y = problem(stretch)
    found = paths(stretch, start)
    place = int(np.abs(np.log(DAMPINGS / strength)).argmin())
    origin = torch.tensor(STARTS[start], dtype=torch.float64)
    before = float(loss(origin, x, y))
    figure = make_subplots(1, 2, subplot_titles=["where one step ends", "loss after the step"])
    grey = [[0, COLORS["neutral"]], [1, COLORS["neutral"]]]
    contours = {"coloring": "lines", "start": -0.6, "end": 1.4, "size": 0.2}
    figure.add_contour(
        x=X_AXIS, y=Y_AXIS, z=_landscape(stretch), contours=contours, colorscale=grey, showscale=False,
        hoverinfo="skip", line={"width": 0.6}, row=1, col=1,
    )  # fmt: skip
    for name, ends in found.items():
        drawn = STYLES[name]
        figure.add_scatter(x=ends[:, 0].numpy(), y=ends[:, 1].numpy(), mode="lines", **drawn, row=1, col=1)
        after = loss(ends, x, y).numpy()
        figure.add_scatter(x=DAMPINGS, y=after, mode="lines", **drawn | {"showlegend": False}, row=1, col=2)
        big = drawn | {"marker": drawn["marker"] | {"size": 12}, "mode": "markers", "showlegend": False}
        figure.add_scatter(x=[float(ends[place, 0])], y=[float(ends[place, 1])], **big, row=1, col=1)
        figure.add_scatter(x=[DAMPINGS[place]], y=[after[place]], **big, row=1, col=2)
    dot = {"mode": "markers", "marker": {"color": COLORS["neutral"], "size": 10, "symbol": "circle"}, "name": "start"}
    figure.add_scatter(x=[float(origin[0])], y=[float(origin[1])], **dot, row=1, col=1)
    dotted = {"color": COLORS["neutral"], "dash": "dot", "width": 1}
    figure.add_hline(y=before, line=dotted, row=1, col=2)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(title="first weight", range=[X_AXIS[0], X_AXIS[-1]], showgrid=False, row=1, col=1)
    figure.update_yaxes(title="second weight", range=[Y_AXIS[0], Y_AXIS[-1]], showgrid=False, row=1, col=1)
    figure.update_xaxes(**LOG, title="damping", row=1, col=2)
    figure.update_yaxes(**LOG, title="loss", row=1, col=2)
    lengths = {name: float((ends[place] - origin).norm()) for name, ends in found.items()}
    losses = {name: float(loss(ends[place], x, y)) for name, ends in found.items()}
    told = "; ".join(f"{name} {number(lengths[name], 2)} → {number(losses[name], 2)}" for name in found)
    return describe(
        figure,
        "curvature-damping",
        alt=(
            "Left: contours of the loss of a logistic regression over its two weights; from the start, three curves "
            "of end points run from the undamped step on one side back to the start as damping grows. Right: the loss "
            "after the step over the damping, high for too little damping, lowest in between, and back at the dotted "
            "level of the start for much damping."
        ),
        summary=f"Loss before: {number(before, 2)}. Length of the step → loss after: {told}.",
        narrow=stack(figure),
    )
