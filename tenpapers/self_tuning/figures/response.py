"""What is a best response, and what does a linear one learn of it? Ridge regression, one weight and the loss."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.self_tuning import Ridge
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number
from tenpapers.self_tuning.workloads import diabetes

LOW, HIGH = -8.0, 4.0
POINTS = 61


@lru_cache
def _exact() -> tuple[Ridge, int, np.ndarray, np.ndarray, np.ndarray]:
    """The problem, the weight that moves most, and over lambda that weight and the validation loss."""
    problem = diabetes()
    grid = np.linspace(LOW, HIGH, POINTS)
    weights = [problem.best_response(lam) for lam in grid.tolist()]
    moved = int((weights[0] - weights[-1]).abs().argmax())
    losses = np.array([float(problem.validation_loss(w)) for w in weights])
    return problem, moved, grid, np.array([float(w[moved]) for w in weights]), losses


def best_response(lam: float = -2.0, sigma: float = 0.5) -> go.Figure:
    """A weight of ridge regression and its validation loss over the log-penalty, and the affine response learned there.

    Args:
        lam: where the response is learned.
        sigma: scale of the perturbations from which it is learned.
    """
    problem, moved, grid, weight, losses = _exact()
    w_0, v = problem.linear_response(lam, sigma)
    exact = problem.jacobian(lam)
    near = np.linspace(lam - 2 * sigma, lam + 2 * sigma, 21)
    learned = [w_0 + v * (x - lam) for x in near.tolist()]
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.13, subplot_titles=("one weight", "validation loss"))
    parts = (
        (weight, [float(w[moved]) for w in learned]),
        (losses, [float(problem.validation_loss(w)) for w in learned]),
    )
    for column, (curve, line) in enumerate(parts, start=1):
        grey = {"color": COLORS["neutral"], "width": 2}
        figure.add_scatter(x=grid, y=curve, mode="lines", name="best response", line=grey, row=1, col=column)
        red = {"color": COLORS["Δ-STN"], "width": 4}
        figure.add_scatter(x=near, y=line, mode="lines", name="learned, over ±2σ", line=red, row=1, col=column)
        top = {"color": COLORS["Δ-STN"], "size": 9, "symbol": "circle"}
        figure.add_scatter(x=[lam], y=[line[10]], mode="markers", name="λ now", marker=top, row=1, col=column)
        spread = curve.max() - curve.min()
        figure.update_yaxes(range=[curve.min() - 0.25 * spread, curve.max() + 0.15 * spread], row=1, col=column)
    figure.update_traces(showlegend=False, col=2)
    figure.update_xaxes(title_text="logarithm λ of the penalty", range=[LOW, HIGH])
    figure.update_layout(height=400)
    error = float((v - exact).norm() / exact.norm())
    x, y = problem.validation
    slope = float((x.T @ (x @ w_0 - y) / len(y)) @ v)
    return describe(
        figure,
        "self-tuning-best-response",
        alt=(
            "Two panels over the logarithm of the penalty. Left, one weight of ridge regression goes smoothly to zero: "
            "the best response. Right, the validation loss along it has a minimum near −2.7. In both, a straight "
            "piece (left) and the loss along it (right) show what an affine response learns from perturbations of the "
            "chosen scale; small scales give the tangent, large ones a line that leaves the curve."
        ),
        summary=(
            f"λ = {number(lam, 1)}, σ = {sigma:g}: the learned slope of the weights is {number(100 * error)} % off "
            f"the exact one. Slope of the validation loss: {number(slope)} learned, "
            f"{number(problem.hypergradient(lam))} exact."
        ),
        narrow=stack(figure),
    )
