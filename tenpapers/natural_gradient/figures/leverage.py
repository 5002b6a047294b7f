"""Which examples does K-FAC learn first? Inputs on the circle, one of which can be turned."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.natural_gradient import TwoLayer, leverage_scores, train
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number

STEPS = 12
CROWD = 8
WIDTH = 8192


@lru_cache
def inputs(angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight unit vectors within 35 degrees of each other and one at ``angle`` degrees from their middle."""
    degrees = torch.linspace(-17.5, 17.5, CROWD, dtype=torch.float64, device="cpu")
    turn = torch.deg2rad(torch.cat([degrees, degrees.new_tensor([angle])]))
    y = torch.ones(CROWD + 1, dtype=torch.float64, device="cpu")
    y[:-1] = -1
    return torch.stack([turn.cos(), turn.sin()], 1), y  # (9, 2), (9,)


@lru_cache(maxsize=64)
def decay(angle: float, lr: float) -> np.ndarray:
    """What is left of each residual, |u_i - y_i| / |u_i(0) - y_i|, under K-FAC: (STEPS + 1, 9)."""
    x, y = inputs(angle)
    net = TwoLayer(2, WIDTH, dtype=torch.float64)
    r = (train(net, x, y, "K-FAC", lr, STEPS, watch=False).outputs - y).abs()
    return (r / r[0]).numpy()


def leverage(angle: float = 60.0, lr: float = 0.5) -> go.Figure:
    """Inputs with their leverage scores, and what is left of each residual under K-FAC.

    Args:
        angle: Of the ninth input, degrees from the middle of the others.
        lr: Learning rate.
    """
    x, _ = inputs(angle)
    scores = leverage_scores(x).numpy()
    other, ninth = float(scores[CROWD // 2]), float(scores[CROWD])
    steps = np.arange(STEPS + 1)
    figure = make_subplots(1, 2, column_widths=[0.4, 0.6], subplot_titles=["inputs", "share of the residual left"])
    crowd, moved = COLORS["neutral"], COLORS["K-FAC"]
    colors = [crowd] * CROWD + [moved]
    figure.add_scatter(
        x=x[:, 0].numpy(),
        y=x[:, 1].numpy(),
        mode="markers",
        marker={"size": 6 + 20 * scores, "color": colors, "opacity": 0.8},
        text=[f"leverage {number(float(score), 2)}" for score in scores],
        hoverinfo="text",
        showlegend=False,
        row=1,
        col=1,
    )
    seen = decay(angle, lr)
    for which, name in ((CROWD // 2, "one of the eight"), (CROWD, "the ninth")):
        color = colors[which]
        predicted = np.abs(1 - lr * scores[which]) ** steps
        line = {"color": color, "width": 2, "dash": "solid" if which == CROWD else "6px,3px"}
        figure.add_scatter(x=steps, y=predicted, mode="lines", line=line, name=f"{name}: (1 − αl)ᵏ", row=1, col=2)
        dots = {"color": color, "size": 8, "symbol": "star" if which == CROWD else "circle-open"}
        label = f"{name}, width {number(WIDTH)}"
        figure.add_scatter(x=steps, y=seen[:, which], mode="markers", marker=dots, name=label, row=1, col=2)
    figure.update_xaxes(range=[-1.25, 1.25], title="x₁", row=1, col=1)
    figure.update_yaxes(range=[-1.25, 1.25], title="x₂", scaleanchor="x", constrain="domain", row=1, col=1)
    figure.update_xaxes(title="step", row=1, col=2)
    figure.update_yaxes(range=[0, 1.05], row=1, col=2)
    return describe(
        figure,
        "natural-gradient-leverage",
        alt=(
            "Left: nine inputs on the unit circle, eight close together and one that can be turned; the size of a "
            "point is its leverage score. Right: the share of two residuals that is left over K-FAC's steps: the "
            "ninth falls the faster the farther it is from the others; one of the eight falls slowly. Dots from a wide "
            "network lie near the predicted curves."
        ),
        summary=(
            f"At {angle:g} degrees: leverage {number(ninth, 2)} for the ninth, {number(other, 2)} for one of the eight "
            f"(all nine: {number(float(scores.sum()), 2)}). With α = {lr:g} a step leaves "
            f"{number(abs(1 - lr * ninth), 2)} and {number(abs(1 - lr * other), 2)} of their residuals."
        ),
        narrow=stack(figure),
    )
