"""Do the scores tell how the loss will rise? And when is a bottleneck smaller than its layer?"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nnlib.eigendamage import bottleneck_parameters, break_even
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number


def rise(found: pd.DataFrame) -> go.Figure:
    """Predicted over measured rise of the loss, one point a filter or row.

    Args:
        found: as :func:`tenpapers.eigendamage.measure.rise_of_the_loss` returns it.
    """
    figure = go.Figure()
    for method, part in found[found.measured > 0].groupby("method", sort=False):
        figure.add_scatter(x=part.predicted, y=part.measured, mode="markers", **style(str(method)))
    ends = [1e-5, 1.0]
    line = {"color": COLORS["neutral"], "dash": "dot", "width": 1}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, name="predicted = measured")
    figure.update_xaxes(**LOG, title_text="predicted rise of the loss")
    figure.update_yaxes(**LOG, title_text="measured rise")
    figure.update_layout(height=460)
    return describe(
        figure,
        "eigendamage-rise",
        alt=(
            "Measured over predicted rise of the loss when one filter, or one row in the eigenbasis, is removed, both "
            "axes logarithmic. Within every method the points rise together from lower left to upper right, above the "
            "line of equality; the points of C-OBS lie furthest to the left of it."
        ),
    )


def bottleneck_cost(k: int = 3, channels: int = 64) -> go.Figure:
    """Parameters of a bottleneck over the share of rows and columns that it keeps, in its three parts.

    Args:
        k: kernel size; 1 for a linear layer.
        channels: inputs and outputs of the layer.
    """
    kept = np.unique(np.round(np.linspace(1, channels, 33)))
    full = k * k * channels**2
    parts = {
        "first rotation": channels * kept / full,
        "core": k * k * kept**2 / full,
        "last rotation": channels * kept / full,
    }
    figure = go.Figure()
    for (name, share), method in zip(parts.items(), ("Kron-OBD", "EigenDamage", "Kron-OBS"), strict=True):
        fill = {"stackgroup": "parts", "mode": "lines", "line": {"color": COLORS[method], "width": 1}}
        figure.add_scatter(x=100 * kept / channels, y=100 * share, name=name, **fill)
    figure.add_hline(y=100, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"})
    figure.add_vline(x=100 * break_even(k), line={"color": COLORS["neutral"], "width": 1, "dash": "dash"})
    figure.update_xaxes(title_text="rows and columns kept, %", range=[0, 100])
    figure.update_yaxes(title_text="parameters, % of the layer's", range=[0, 310 if k == 1 else 160])
    half = bottleneck_parameters(channels, channels, k, channels // 2, channels // 2) / full
    return describe(
        figure,
        "eigendamage-bottleneck-cost",
        alt=(
            "Parameters of a bottleneck over the share of rows and columns that it keeps, as three stacked areas: "
            "the two rotations grow in proportion, the core with the square. A dotted level marks the layer itself, a "
            "dashed line the share where both are equal."
        ),
        summary=(
            f"Kernel {k} × {k}: a bottleneck is smaller than the layer below {number(100 * break_even(k))} % of the "
            f"rows and columns; with half of them it has {number(100 * half)} % of the parameters."
        ),
    )
