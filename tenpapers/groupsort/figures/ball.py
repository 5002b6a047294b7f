"""How large is the certified ball around a point, and how far is the boundary? Three norms in the plane."""

import math
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from nnlib.groupsort import LipschitzMLP
from nnlib.lipschitz import certify, hinge_loss
from nnlib.training import Dataset, Split, fit
from tenpapers.page.look import COLORS, describe
from tenpapers.page.text import number

NORMS = {"1": 1, "2": 2, "∞": math.inf}
CONSTRAINTS = {"1": "mixed, p = 1", "2": "Björck", "∞": "rows"}
CLASSES = ("MaxMin", "GroupSort4", "Abs")  # three colours that are told apart
SIDE = 61


def toy_points(n: int, seed: int = 0) -> Split:
    """Three classes in the unit square: two clusters each, in turn round the centre.

    >>> toy_points(6).x.shape
    torch.Size([6, 2])
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64, device="cpu")
    cluster = torch.arange(n, device="cpu") % 6
    angle = cluster.double() * math.pi / 3 + 0.3
    centre = 0.5 + 0.32 * torch.stack([angle.cos(), angle.sin()], 1)
    return Split((centre + 0.045 * noise).clamp(0, 1), cluster % 3)


@lru_cache
def toy_classifier(p: str) -> nn.Module:
    """A classifier of the toy points that is Lipschitz from the p-norm, trained with a hinge loss."""
    points = toy_points(600)
    empty = Split(points.x[:1], points.y[:1])
    data = Dataset(points, empty, empty, {"classes": ["0", "1", "2"]}, "three classes in the plane, drawn", "none")
    model = LipschitzMLP([2, 32, 32, 3], "MaxMin", CONSTRAINTS[p], dtype=torch.float64, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    unmeasured = {"splits": (), "evaluate_at": (), "progress": False}
    fit(model, data, optimizer, loss=hinge_loss(0.2), steps=250, batch_size=100, **unmeasured)
    return model.eval()


@lru_cache
def regions(p: str) -> np.ndarray:
    """Predicted class on a grid of the unit square, (y, x)."""
    axis = torch.linspace(0, 1, SIDE, dtype=torch.float64)
    with torch.no_grad():
        return toy_classifier(p)(torch.cartesian_prod(axis, axis)).argmax(1).view(SIDE, SIDE).T.numpy()


def ball(centre: Tensor, radius: float, p: str) -> np.ndarray:
    """Corners of the ball's outline: (2, k)."""
    angle = np.linspace(0, 2 * math.pi, 49)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    size = np.linalg.norm(direction, NORMS[p] if p != "∞" else np.inf, axis=0)
    return centre.numpy()[:, None] + radius * direction / size


def nearest_change(p: str, x: Tensor, label: int) -> float:
    """The p-norm distance to the nearest point of a fine polar grid with another prediction: a search, no proof."""
    angle = torch.linspace(0, 2 * math.pi, 241, dtype=torch.float64)[:-1]
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    direction = direction / torch.linalg.vector_norm(direction, NORMS[p], dim=1, keepdim=True)
    radii = torch.linspace(0, 0.6, 301, dtype=torch.float64)[1:]
    points = x + radii[:, None, None] * direction  # (radii, angles, 2)
    with torch.no_grad():
        other = toy_classifier(p)(points.flatten(0, 1)).argmax(1).view(len(radii), -1) != label
    hit = other.any(1)
    return radii[hit][0].item() if hit.any() else math.inf


def certificate_ball(p: str = "2", point: int = 1) -> go.Figure:
    """The certified ball around one of the test points, within the decision regions.

    Args:
        p: ``1``, ``2`` or ``∞``.
        point: Which point, 1 to 8.
    """
    test = toy_points(8, seed=3)
    certificate = certify(toy_classifier(p), test, NORMS[p], head="pairs")
    x, y = test.x[point - 1], int(test.y[point - 1])
    radius = certificate.radius[point - 1].item()
    figure = go.Figure()
    colors = [COLORS[name] for name in CLASSES]
    scale = [[step, colors[int(k)]] for k in range(3) for step in (k / 3, (k + 1) / 3)]
    axis = np.linspace(0, 1, SIDE)
    figure.add_heatmap(
        x=axis,
        y=axis,
        z=regions(p),
        zmin=-0.5,
        zmax=2.5,
        colorscale=scale,
        showscale=False,
        opacity=0.35,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=test.x[:, 0].numpy(),
        y=test.x[:, 1].numpy(),
        mode="markers+text",
        text=[str(i + 1) for i in range(8)],
        textposition="top center",
        name="test points",
        marker={"color": [colors[k] for k in test.y], "size": 9, "line": {"color": COLORS["neutral"], "width": 1}},
    )
    outline = ball(x, radius, p)
    figure.add_scatter(
        x=outline[0].round(4),
        y=outline[1].round(4),
        mode="lines",
        name="certified",
        fill="toself",
        fillcolor="rgba(128,128,128,0.25)",
        line={"color": COLORS["neutral"], "width": 2},
    )
    change = nearest_change(p, x, y)
    if math.isfinite(change):
        outline = ball(x, change, p)
        figure.add_scatter(
            x=outline[0].round(4),
            y=outline[1].round(4),
            mode="lines",
            name="nearest change found",
            line={"color": COLORS["ReLU"], "width": 2, "dash": "4px,4px"},
        )
    figure.update_xaxes(title_text="x₁", range=[0, 1], constrain="domain")
    figure.update_yaxes(title_text="x₂", range=[0, 1], scaleanchor="x", constrain="domain")
    figure.update_layout(height=480)
    shape = {"1": "diamond", "2": "disc", "∞": "square"}[p]
    right = bool(certificate.correct[point - 1])
    summary = f"p = {p}, point {point}: certified radius {number(radius)}, nearest change found at {number(change)}."
    if not right:
        summary = f"p = {p}, point {point}: the prediction is wrong, so that nothing is certified."
    return describe(
        figure,
        "groupsort-ball",
        alt=(
            "The unit square in three colours, the classes that a network predicts, with eight test points. Around "
            f"point {point} a {shape}, within which no change of the class is possible, and a larger dashed {shape} "
            "that touches the nearest point of another class that a search found."
        ),
        summary=summary,
    )
