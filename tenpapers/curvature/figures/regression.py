"""Where do the gradient, the natural gradient and the empirical Fisher matrix point, on a straight-line fit?"""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.curvature.measure import OFFSETS, SLOPES, fields
from tenpapers.page.look import COLORS, describe, stack

COLOURS = {"gradient": "GD", "natural gradient": "Natural gradient", "empirical Fisher": "Adam"}


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
