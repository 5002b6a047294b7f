"""Where do the gradient, the natural gradient and the empirical Fisher matrix point, on a straight-line fit?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import nn

from nnlib.curvature import dense_fisher
from tenpapers.page.look import COLORS, describe, stack

SLOPES, OFFSETS = np.linspace(-1, 5, 9), np.linspace(-3, 5, 9)
COLOURS = {"gradient": "GD", "natural gradient": "Natural gradient", "empirical Fisher": "Adam"}


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
    found = {name: [] for name in (*COLOURS, "loss")}
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


def regression_fields(seed: int = 0) -> go.Figure:
    """The three fields of :func:`fields` over contours of the loss; each stroke starts at its dot.

    Args:
        seed: Of the data.
    """
    found = fields(seed)
    figure = make_subplots(1, 3, subplot_titles=list(COLOURS), shared_yaxes=True, horizontal_spacing=0.04)
    theta, optimum = found["theta"], found["optimum"]
    for column, (name, colour) in enumerate(COLOURS.items(), 1):
        where = {"row": 1, "col": column}
        contours = {"coloring": "lines", "start": -1, "end": 4, "size": 0.7}
        grey = [[0, COLORS["neutral"]], [1, COLORS["neutral"]]]
        z = np.log(found["loss"]).reshape(9, 9).T
        line = {"width": 0.6}
        figure.add_contour(
            x=SLOPES, y=OFFSETS, z=z, contours=contours, colorscale=grey, showscale=False, hoverinfo="skip", line=line,
            **where,
        )  # fmt: skip
        unit = found[name] / np.linalg.norm(found[name], axis=1, keepdims=True)
        ends = theta + 0.55 * unit
        strokes = np.stack([theta, ends, np.full_like(theta, np.nan)], 1).reshape(-1, 2)
        drawn = {"color": COLORS[colour], "width": 2}
        quiet = {"showlegend": False, "hoverinfo": "skip"}
        figure.add_scatter(x=strokes[:, 0], y=strokes[:, 1], mode="lines", line=drawn, **quiet, **where)
        dots = {"color": COLORS[colour], "size": 4}
        figure.add_scatter(x=theta[:, 0], y=theta[:, 1], mode="markers", marker=dots, **quiet, **where)
        best = {"color": COLORS["neutral"], "size": 11, "symbol": "x"}
        figure.add_scatter(x=optimum[:1], y=optimum[1:], mode="markers", marker=best, **quiet, **where)
    figure.update_xaxes(title="slope", showgrid=False)
    figure.update_yaxes(showgrid=False)
    figure.update_yaxes(title="offset", col=1)
    figure.update_layout(height=360)
    return describe(
        figure,
        "curvature-regression",
        alt=(
            "Three panels with the same elliptic contours of a least-squares loss and a cross at the optimum. Strokes "
            "show directions at 81 points. The gradient crosses the contours at right angles and misses the cross. The "
            "natural gradient points straight at the cross from everywhere. With the empirical Fisher matrix the "
            "strokes bend away along the valley and many miss the cross by a wide angle."
        ),
        narrow=stack(figure),
    )
