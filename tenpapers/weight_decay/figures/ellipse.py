"""Effective damping: as the weights grow, the ellipse of the curvature becomes a circle and K-FAC becomes SGD."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.weight_decay import damped_direction, effective_damping
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number

TURN = np.radians(30)
AXES = torch.tensor([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]], dtype=torch.float64, device="cpu")
EIGENVALUES = torch.tensor([1.0, 0.05], dtype=torch.float64, device="cpu")  # of C at |theta| = 1
GRADIENT = AXES @ torch.tensor([1.0, 0.35], dtype=torch.float64, device="cpu")
CIRCLE = np.linspace(0, 2 * np.pi, 41)
DAMPINGS = np.geomspace(1e-6, 1e3, 28)


def angle(direction: torch.Tensor, other: torch.Tensor) -> float:
    """Degrees between two vectors in the plane."""
    cosine = direction @ other / (direction.norm() * other.norm())
    return float(torch.rad2deg(torch.acos(cosine.clamp(-1, 1))))


def ellipse(length: float = 1.0, damping: float = 1e-3, size: float = 1.0) -> go.Figure:
    """The damped curvature that the direction of the weights sees, and the step that follows from it.

    Args:
        length: |theta|, positive.
        damping: lambda, as the optimiser has it, positive.
        size: Factor on the curvature: 1 for the Gauss-Newton matrix; a Fisher matrix late in training is smaller.
    """
    C = size * AXES @ torch.diag(EIGENVALUES) @ AXES.T
    added = effective_damping(damping, length)
    natural, plain = (damped_direction(C, GRADIENT, d) for d in (1e-12, 1e12))
    step = damped_direction(C, GRADIENT, added)
    # x' (C + added I) x = largest eigenvalue: the short axis of the ellipse is 1 at every damping.
    damped = size * EIGENVALUES + added
    radii = (damped.max() / damped).sqrt().numpy()
    outline = AXES.numpy() @ (radii[:, None] * np.stack([np.cos(CIRCLE), np.sin(CIRCLE)]))  # (2, points)
    figure = make_subplots(1, 2, subplot_titles=["curvature and step", "angle of the step"], horizontal_spacing=0.12)
    grey = {"color": COLORS["neutral"], "width": 1.5}
    figure.add_scatter(
        x=outline[0], y=outline[1], mode="lines", line=grey, name="C + |θ|²λ I", fill="toself",
        fillcolor="rgba(128,128,128,0.12)", hoverinfo="skip", row=1, col=1,
    )  # fmt: skip
    arrows = {"natural gradient": ("Natural gradient", natural), "plain gradient": ("GD", plain)}
    arrows["damped step"] = ("K-FAC", step)
    for name, (look, direction) in arrows.items():
        drawn: dict[str, Any] = style(look) | {"name": name, "legendgroup": name, "mode": "lines+markers"}
        drawn["marker"] = drawn["marker"] | {"size": [0, 11], "opacity": 1}
        if name == "damped step":
            drawn["line"] = drawn["line"] | {"width": 4, "dash": "solid"}
        end = -2.2 * direction.numpy()  # a step goes down
        figure.add_scatter(x=[0, end[0]], y=[0, end[1]], **drawn, row=1, col=1)
    steps = [damped_direction(C, GRADIENT, float(d)) for d in DAMPINGS]
    for name, (look, direction) in list(arrows.items())[:2]:
        drawn = style(look) | {"name": f"to the {name}", "legendgroup": name, "mode": "lines", "showlegend": False}
        figure.add_scatter(x=DAMPINGS, y=[angle(s, direction) for s in steps], **drawn, row=1, col=2)
        drawn["marker"] = drawn["marker"] | {"size": 11}
        at = {"x": [added], "y": [angle(step, direction)]}
        figure.add_scatter(**at, **drawn | {"mode": "markers"}, row=1, col=2)
    dotted = {"color": COLORS["neutral"], "width": 1, "dash": "dot"}
    figure.add_vline(x=added, line=dotted, row=1, col=2)  # pyright: ignore[reportArgumentType]
    reach = 4.7
    figure.update_xaxes(range=[-reach, reach], showticklabels=False, ticks="", showgrid=False, row=1, col=1)
    square = {"scaleanchor": "x", "scaleratio": 1, "range": [-reach, reach], "constrain": "domain"}
    figure.update_yaxes(**square, showticklabels=False, ticks="", showgrid=False, row=1, col=1)
    figure.update_xaxes(**LOG, title="effective damping |θ|²λ", range=[-6, 3], row=1, col=2)
    figure.update_xaxes(dtick=3, minor=None, row=1, col=2)
    figure.update_yaxes(title="degrees", rangemode="tozero", row=1, col=2)
    return describe(
        figure,
        "weight-decay-ellipse",
        alt=(
            "Left: the ellipse of the damped curvature in the plane tangent to the weights, with three arrows, natural "
            "gradient, plain gradient and the damped step. For short weights the ellipse is long and the step lies on "
            "the natural gradient; as the weights grow the ellipse becomes a circle and the step turns onto the plain "
            "gradient. Right: the step's angle to both over the effective damping, one rising, the other falling."
        ),
        summary=(
            f"|θ| = {number(length)} with λ = {number(damping)}: effective damping {number(added)}. The step is "
            f"{number(angle(step, natural), 2)}° from the natural gradient and {number(angle(step, plain), 2)}° from "
            "the plain one."
        ),
        narrow=stack(figure, 320),
    )
