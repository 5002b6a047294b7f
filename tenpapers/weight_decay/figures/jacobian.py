"""Mechanism 2: the Jacobian norm under decay, and what it goes together with."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.page.look import COLORS, LOG, describe, stack, style


def jacobian_by_decay(runs: pd.DataFrame) -> go.Figure:
    """Left the squared Jacobian norm, right the squared length of the weights, over the decay; each run and the mean.

    Args:
        runs: columns ``method, weight_decay, jacobian, norm``, one row for each seed.
    """
    titles = ["Jacobian norm |J|²", "squared length of the hidden weights"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.14)
    for method, part in runs.groupby("method", sort=False):
        decays = sorted(part.weight_decay.unique())
        places = [decays.index(value) for value in part.weight_decay]
        for column, power, col in (("jacobian", 1, 1), ("norm", 2, 2)):
            values = part[column] ** power
            means = values.groupby(part.weight_decay).mean()
            look: dict[str, Any] = style(str(method)) | {"showlegend": col == 1}
            figure.add_scatter(
                x=list(range(len(decays))), y=means[decays], mode="lines+markers", **look, row=1, col=col
            )
            small = look["marker"] | {"size": 4, "opacity": 0.6}
            each = look | {"marker": small, "showlegend": False, "mode": "markers"}
            figure.add_scatter(x=places, y=values, **each, row=1, col=col)
    labels = [f"{value:g}" for value in decays]
    figure.update_xaxes(title="decoupled weight decay", tickvals=list(range(len(decays))), ticktext=labels)
    figure.update_yaxes(**LOG)
    figure.update_yaxes(dtick="D2", minor=None, row=1, col=2)
    return describe(
        figure,
        "weight-decay-jacobian",
        alt=(
            "Two panels over the coefficient of weight decay, on logarithmic axes. Left, the squared norm of the "
            "input-output Jacobian falls under both optimisers, far more under K-FAC than under SGD. Right, the "
            "squared length of the weights falls less under K-FAC than under SGD."
        ),
        narrow=stack(figure),
    )


def jacobian_scatter(runs: pd.DataFrame) -> go.Figure:
    """The Jacobian norm against the K-FAC norm and against the generalisation gap, one point a network.

    Args:
        runs: columns ``hidden`` (units of the hidden layers), ``decay, jacobian, kfac_norm, train_loss, test_loss``.
    """
    titles = ["against the K-FAC norm", "against test loss − training loss"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.14)
    looks = {1: "circle", 2: "square", 3: "diamond"}
    colors = {"none": COLORS["neutral"], "decoupled": COLORS["K-FAC-G"]}
    words = {"none": "no decay", "decoupled": "decay"}
    runs = runs.assign(depth=[len(hidden) for hidden in runs.hidden], gap=runs.test_loss - runs.train_loss)
    for _, part in runs.groupby(["decay", "depth"], sort=False):
        decay, depth = part.decay.iloc[0], part.depth.iloc[0]
        marker = {"color": colors[decay], "symbol": looks[depth], "size": 9, "opacity": 0.8}
        name = f"{words[decay]}, {depth} hidden"
        text = ["×".join(str(units) for units in hidden) for hidden in part.hidden]
        for col, column in ((1, "kfac_norm"), (2, "gap")):
            figure.add_scatter(
                x=part[column], y=part.jacobian, mode="markers", marker=marker, name=name, legendgroup=name, text=text,
                showlegend=col == 1, row=1, col=col,
            )  # fmt: skip
    figure.update_xaxes(**LOG, title="K-FAC norm", row=1, col=1)
    figure.update_xaxes(title="generalisation gap", row=1, col=2)
    figure.update_yaxes(**LOG, title="Jacobian norm |J|²", row=1, col=1)
    figure.update_yaxes(**LOG, row=1, col=2)
    figure.update_layout(height=470)
    return describe(
        figure,
        "weight-decay-scatter",
        alt=(
            "Two scatter plots of networks of several widths and depths, with and without decay. Left, the Jacobian "
            "norm rises with the K-FAC norm. Right, it rises with the generalisation gap, with more scatter."
        ),
        narrow=stack(figure, 330),
    )
