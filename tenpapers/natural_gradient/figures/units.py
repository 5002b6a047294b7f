"""Where does the step of smallest length go if lengths are measured in other units?"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.natural_gradient.units import METHODS
from tenpapers.page.look import COLORS, describe, stack, style

J, RESIDUAL = np.array([1.0, 0.75]), -1.0  # of one output with two parameters; the step must change it by 1
UNITS = (0.25, 0.5, 1.0, 2.0, 4.0)


def shortest_step(unit: float) -> np.ndarray:
    """The step of minimum norm in (theta_1, psi) with theta_2 = unit psi, as a change of theta: D^2 J' / J D^2 J'."""
    squares = np.array([1.0, unit**2])
    return -RESIDUAL * squares * J / (J * squares * J).sum()


def units(table: pd.DataFrame) -> go.Figure:
    """Left, steps of minimum norm in the plane of two parameters; then what units do to whole runs.

    Args:
        table: Columns method, factor, width, d, training, test.
    """
    figure = make_subplots(
        1, 3, subplot_titles=["one step, two parameters", "training points", "new points"], horizontal_spacing=0.09
    )
    line = np.array([-0.5, 1.5])
    solved = (1 - J[0] * line) / J[1]
    quiet = {"showlegend": False, "hoverinfo": "skip", "row": 1, "col": 1}
    grey = {"color": COLORS["neutral"], "width": 1, "dash": "dot"}
    figure.add_scatter(x=line, y=solved, mode="lines", line=grey, **quiet)
    for unit in UNITS:
        a, b = shortest_step(unit)
        look = style("Natural gradient") | {"mode": "lines+markers+text", "name": f"unit {unit:g}"}
        text = ["", f" {unit:g}"]
        figure.add_scatter(x=[0, a], y=[0, b], text=text, textposition="middle right", **look | quiet)
    figure.update_xaxes(title="θ₁", range=[-0.2, 1.35], row=1, col=1)
    figure.update_yaxes(title="θ₂", range=[-0.2, 1.5], row=1, col=1)
    chosen = table[(table.d == 10) & (table.width == table.width.max())]
    for col, column in ((2, "training"), (3, "test")):
        for method in METHODS:
            means = chosen[chosen.method == method].groupby("factor")[column].mean()
            look = style(method) | {"mode": "lines+markers", "showlegend": col == 2}
            figure.add_scatter(x=[1, *means.index], y=[0, *means], row=1, col=col, **look)
        figure.update_xaxes(title="units larger by", type="log", tickvals=[1, 2, 4, 8], row=1, col=col)
        figure.update_yaxes(rangemode="tozero", row=1, col=col)
    figure.update_yaxes(title="difference", row=1, col=2)
    return describe(
        figure,
        "natural-gradient-units",
        alt=(
            "Left: a plane of two parameters with a dotted line of all steps that give the output its target. Five "
            "strokes from the origin end on the line at different points, according to the unit of the second "
            "parameter: along the first axis for a small unit, nearly along the second for a large one. Middle and "
            "right: the difference of two runs over the factor of the units. On training points gradient descent's "
            "grows and the natural gradient's stays near zero; on new points both grow to about one half or more; "
            "K-FAC's is zero in both."
        ),
        narrow=stack(figure),
    )
