"""Steps to a target on networks beside the model's prediction."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.nqm.figures.curves import BATCH_AXIS, BATCH_SIZES, curve
from tenpapers.page.look import LOG, describe, stack, style

DRAWN = {  # name in the legend -> (optimiser, averaged?)
    "SGD": ("SGD", False),
    "Momentum": ("Momentum", False),
    "EMA": ("SGD", True),
    "Adam": ("Adam", False),
    "Adam + EMA": ("Adam", True),
    "K-FAC": ("K-FAC", False),
}


def networks(tuned: pd.DataFrame, workload: str = "digits") -> go.Figure:
    """Left: steps that a network needs, tuned at each batch size. Right: the model, Adam as p = 1/2, K-FAC as p = 3/4.

    Args:
        tuned: as the table ``tenpapers.nqm.runs.networks`` holds it.
        workload: which of its workloads to draw.
    """
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.12, subplot_titles=(f"network on {workload}", "noisy quadratic model")
    )
    rows = tuned[(tuned.workload == workload) & (tuned.steps < float("inf"))]
    for name, (optimizer, average) in DRAWN.items():
        part = rows[(rows.optimizer == optimizer) & (rows.average == average)].sort_values("batch_size")
        if part.empty:
            raise ValueError(f"no run of {name} on {workload!r}: there are {sorted(set(tuned.workload))}")
        bars = {"array": part.high - part.steps, "arrayminus": part.steps - part.low, "thickness": 1, "width": 2}
        figure.add_scatter(
            x=part.batch_size, y=part.steps, error_y=bars, mode="lines+markers", **style(name), row=1, col=1
        )
    for name, tuned_curve in {
        "SGD": curve("SGD"),
        "Momentum": curve("Momentum"),
        "EMA": curve("EMA"),
        "Adam": curve("Momentum", power=0.5),
        "Adam + EMA": curve("EMA", power=0.5),
        "K-FAC": curve("Momentum", power=0.75),
    }.items():
        look = style(name) | {"showlegend": False, "mode": "lines"}
        figure.add_scatter(x=BATCH_SIZES, y=tuned_curve.steps, **look, row=1, col=2)
    ticks = sorted(set(rows.batch_size))
    figure.update_xaxes(type="log", tickvals=ticks[::2], ticktext=[f"{b:,}" for b in ticks[::2]], row=1, col=1)
    figure.update_xaxes(**BATCH_AXIS, row=1, col=2)
    figure.update_xaxes(title_text="batch size")
    figure.update_yaxes(**LOG, title_text="steps to the target")
    figure.update_yaxes(dtick="D2", minor=None, row=1, col=1)  # less than two decades: labels at 2 and 5 too
    figure.update_layout(height=430)
    return describe(
        figure,
        f"nqm-networks-{workload}".replace("_", "-"),
        alt=(
            "Two panels, steps to a target over the batch size, on logarithmic axes. Left, measured: at small "
            "batches SGD and momentum lie together and averaging lies below; towards large batches SGD bends "
            "first, momentum and Adam later; K-FAC lies lowest throughout. Right, the model: the same order from SGD "
            "to Adam, and K-FAC lowest."
        ),
        narrow=stack(figure),
    )
