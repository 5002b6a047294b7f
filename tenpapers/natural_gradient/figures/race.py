"""Which way do the outputs take to their targets, by gradient descent, natural gradient and K-FAC?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from nnlib.natural_gradient import TwoLayer, ideal_run, stable_lr, train
from tenpapers.natural_gradient.workloads import Problem, pair
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number

METHODS = ("GD", "Natural gradient", "K-FAC")
STEPS = 15
FAR = [*range(STEPS), *range(STEPS, 300, 15)]  # the dotted path on the left goes on to the target


@lru_cache
def problem() -> Problem:
    """Eighty digits, fours and nines."""
    return pair("digits", 4, 9, n=80)


def most_bent(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Two examples, of class +1 and -1, whose path of outputs from 0 bends most at infinite width.

    A path bends by its length over the distance between its ends, minus 1; the product for gradient descent and K-FAC
    over a hundred steps counts.
    """
    bend = torch.ones(len(x), len(x), dtype=x.dtype, device=x.device)
    for method in ("GD", "K-FAC"):
        u = ideal_run(x, torch.zeros_like(y), y, method, 1.0 if method == "GD" else 0.3, 100)
        moves, ends = u.diff(dim=0).square(), (u[-1] - u[0]).square()  # (100, n), (n,)
        length = (moves[:, :, None] + moves[:, None]).sqrt().sum(0)  # (n, n)
        bend *= length / (ends[:, None] + ends).sqrt() - 1
    i, j = divmod(int(bend.masked_fill(~((y[:, None] > 0) & (y < 0)), 0).argmax()), len(x))
    return i, j


@lru_cache(maxsize=128)
def outputs(method: str, width: int, lr: float) -> np.ndarray:
    """The outputs over the steps, (STEPS + 1, n); for gradient descent lr is a share of 1 / lambda_max(G(0))."""
    x, y, *_ = problem()
    net = TwoLayer(x.shape[1], width, dtype=torch.float64)
    rate = lr * stable_lr(net, x) if method == "GD" else lr
    return train(net, x, y, method, rate, STEPS, watch=False).outputs.numpy()


def race(width: int = 1024, lr: float = 0.3) -> go.Figure:
    """Left, the outputs for a four and a nine (see ``most_bent``); right, all residuals over the steps.

    Args:
        width: m.
        lr: Learning rate; gradient descent's is this share of 1 / lambda_max(G(0)).
    """
    x, y, *_ = problem()
    i, j = most_bent(x, y)
    figure = make_subplots(1, 2, subplot_titles=["outputs for two images", "|u − y| / |u(0) − y|"])
    ends = {}
    for method in METHODS:
        u = outputs(method, width, lr)
        left = np.linalg.norm(u - y.numpy(), axis=1)
        ends[method] = left[-1] / left[0]
        look = style(method) | {"mode": "lines+markers", "marker": style(method)["marker"] | {"size": 5}}
        figure.add_scatter(x=u[:, i], y=u[:, j], row=1, col=1, **look)
        shown = left / left[0]
        shown[shown < 1e-8] = np.nan
        figure.add_scatter(x=np.arange(STEPS + 1), y=shown, row=1, col=2, **look, showlegend=False)
        ideal = ideal_run(x, torch.from_numpy(u[0]), y, method, lr, FAR[-1]).numpy()
        thin = {"mode": "lines", "line": {"color": COLORS[method], "width": 1, "dash": "2px,3px"}, "showlegend": False}
        figure.add_scatter(x=ideal[FAR, i], y=ideal[FAR, j], row=1, col=1, **thin, hoverinfo="skip")
        fallen = np.linalg.norm(ideal[: STEPS + 1] - y.numpy(), axis=1) / left[0]
        fallen[fallen < 1e-8] = np.nan
        figure.add_scatter(x=np.arange(STEPS + 1), y=fallen, row=1, col=2, **thin, hoverinfo="skip")
    target = {"symbol": "x-thin-open", "size": 14, "color": COLORS["neutral"]}
    figure.add_scatter(x=[1], y=[-1], mode="markers", marker=target, name="target", row=1, col=1)
    figure.update_xaxes(title="output for a four", range=[-1.2, 2], row=1, col=1)
    figure.update_yaxes(title="output for a nine", range=[-2, 1.2], row=1, col=1)
    figure.update_xaxes(title="step", row=1, col=2)
    figure.update_yaxes(**LOG, range=[-5, 0.3], row=1, col=2)
    told = ", ".join(f"{name} {number(float(end), 2) if end > 1e-8 else 'none'}" for name, end in ends.items())
    return describe(
        figure,
        "natural-gradient-race",
        alt=(
            "Left: the plane of the outputs for two images, a four and a nine. The natural gradient walks straight to "
            "the target at (1, −1); gradient descent sets off in another direction and its dotted continuation turns "
            "later; K-FAC bends less. Right: the distance of all outputs from their targets over the steps, "
            "logarithmic: a straight line for the natural gradient. Dotted: a network of infinite width."
        ),
        summary=f"Width {number(width)}, α = {lr:g}: of |u − y|, {STEPS} steps leave: {told}.",
        narrow=stack(figure),
    )
