"""What decay does to trained networks: accuracies of all optimisers, and the norm transfer."""

import re

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.weight_decay import METHODS
from tenpapers.page.look import COLORS, describe, stack

DECAY_LOOKS = {
    "none": {"name": "no decay", "color": COLORS["neutral"], "symbol": "circle-open"},
    "l2": {"name": "L2", "color": COLORS["SGD"], "symbol": "diamond"},
    "decoupled": {"name": "decoupled decay", "color": COLORS["Momentum"], "symbol": "square"},
}
RUN_LOOKS = {
    "none": {"color": COLORS["neutral"], "dash": "4px,3px"},
    "decay": {"color": COLORS["Momentum"], "dash": "solid"},
    "norms given": {"color": COLORS["SGD"], "dash": "12px,3px,3px,3px"},
    "norms given, decay on last": {"color": COLORS["EMA"], "dash": "2px,3px"},
}


def accuracies(runs: pd.DataFrame, data: str) -> go.Figure:
    """Test accuracy of each optimiser without decay, with L2 and with decoupled decay; mean, and lowest to highest.

    Args:
        runs: columns ``data, batch_norm, method, decay, test_accuracy``, one row for each seed.
        data: which data set to draw.
    """
    figure = make_subplots(1, 2, subplot_titles=["without BatchNorm", "with BatchNorm"], shared_yaxes=True)
    runs = runs[runs.data == data]
    if runs.empty:
        raise ValueError(f"no run on {data!r}")
    for col, batch_norm in enumerate((False, True), start=1):
        for shift, (decay, look) in enumerate(DECAY_LOOKS.items()):
            part = runs[(runs.batch_norm == batch_norm) & (runs.decay == decay)].groupby("method").test_accuracy
            if part.ngroups == 0:
                continue
            summary = 100 * part.agg(["mean", "min", "max"]).reindex([m for m in METHODS if m in part.groups])
            bars = {"array": summary["max"] - summary["mean"], "arrayminus": summary["mean"] - summary["min"]}
            figure.add_scatter(
                x=[METHODS.index(method) + 0.2 * (shift - 1) for method in summary.index],
                y=summary["mean"],
                error_y=bars | {"thickness": 1, "width": 3},
                mode="markers",
                marker={"color": look["color"], "symbol": look["symbol"], "size": 9, "line": {"width": 2}},
                name=look["name"],
                legendgroup=decay,
                showlegend=col == 2,
                row=1,
                col=col,
            )
    figure.update_xaxes(tickvals=list(range(len(METHODS))), ticktext=list(METHODS), range=[-0.5, len(METHODS) - 0.5])
    figure.update_yaxes(title="test accuracy, %", row=1, col=1)
    return describe(
        figure,
        "weight-decay-accuracies-" + re.sub("[^a-z0-9]+", "-", data.lower()),
        alt=(
            f"Test accuracy on {data.replace('_', ' ')} for SGD, Adam, K-FAC with the Gauss-Newton and with the Fisher "
            "matrix, each without decay, with L2 and with decoupled decay; without BatchNorm on the left, with it on "
            "the right. The table below the figure has the numbers."
        ),
        narrow=stack(figure),
    )


def norm_transfer(runs: pd.DataFrame) -> go.Figure:
    """Effective learning rate and training loss over the epochs of the norm-transfer experiment, means over seeds.

    Args:
        runs: columns ``run, epoch, learning_rate, norm, loss``, one row for each epoch and seed.
    """
    titles = ["effective learning rate lr/|W|²", "training loss"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.12)
    runs = runs.assign(effective=runs.learning_rate / runs["norm"] ** 2)
    for name, look in RUN_LOOKS.items():
        means = runs[runs.run == name].groupby("epoch")[["effective", "loss"]].mean()
        for col, column in ((1, "effective"), (2, "loss")):
            line = {"color": look["color"], "dash": look["dash"], "width": 2}
            drawn = {"name": name, "legendgroup": name, "mode": "lines", "line": line, "showlegend": col == 1}
            figure.add_scatter(x=means.index, y=means[column], **drawn, row=1, col=col)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(type="log", dtick=1, tickfont={"size": 11}, row=1, col=1)
    figure.update_yaxes(type="log", dtick="D2", tickfont={"size": 11}, row=1, col=2)
    return describe(
        figure,
        "weight-decay-transfer",
        alt=(
            "Two panels over the epochs of four runs of SGD. Left, the effective learning rate: it falls without decay "
            "and is much higher with decay and in both runs that are given the norms of the run with decay. Right, the "
            "training losses: the run with norms alone ends as low as the one without decay; with decay on the last "
            "layer as well it ends near the run with decay."
        ),
        narrow=stack(figure),
    )
