"""Recorded runs as pictures: the comparison of layers, critics beside the exact distance, a broken constraint."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.page.look import COLORS, DASHES, LOG, MARKERS, describe, stack, style


def ablation(runs: pd.DataFrame) -> go.Figure:
    """For each data set and method, clean and certified accuracy, one point a seed.

    Args:
        runs: One row a run: ``data, method, clean, certified``.
    """
    names = list(dict.fromkeys(runs.data))
    methods = [name for name in ("BCOP", "RKO", "OSSN", "SVCM", "RK-L2NE", "BCOP-Fixed") if name in set(runs.method)]
    figure = make_subplots(rows=1, cols=len(names), shared_yaxes=True, subplot_titles=names, horizontal_spacing=0.04)
    for column, data in enumerate(names, 1):
        for method in methods:
            part = runs[(runs.data == data) & (runs.method == method)]
            means = part[["certified", "clean"]].mean()
            line = {"color": COLORS[method], "width": 2}
            figure.add_scatter(
                x=means, y=[method, method], mode="lines", line=line, name=method, showlegend=False, row=1, col=column
            )
            for kind, symbol in (("certified", "circle"), ("clean", "circle-open")):
                figure.add_scatter(
                    x=part[kind], y=[method] * len(part), mode="markers", name=kind, legendgroup=kind,
                    showlegend=column == 1 and method == methods[0],
                    marker={"symbol": symbol, "size": 9, "color": COLORS[method]}, row=1, col=column,
                )  # fmt: skip
    figure.update_xaxes(title_text="accuracy", range=[0, 1])
    figure.update_yaxes(categoryorder="array", categoryarray=methods[::-1])
    figure.update_layout(height=360)
    narrow = stack(figure)
    for axis in [key for key in narrow if key.startswith("yaxis")]:
        narrow[axis]["showticklabels"] = True  # below one another, each panel needs its own
    return describe(
        figure,
        "bcop-ablation",
        alt=(
            "For each data set a panel with one row a method: certified accuracy as filled points, clean accuracy "
            "as open points, a line between their means. BCOP has the highest certified accuracy in every panel; "
            "clean accuracies lie closer together."
        ),
        narrow=narrow,
    )


def critics(runs: pd.DataFrame) -> go.Figure:
    """Lower bounds on W_1 by method and activation, one point a seed, beside the exact value.

    Args:
        runs: One row a run: ``method, activation, bound, exact``.
    """
    figure = go.Figure()
    for activation in ("MaxMin", "ReLU"):
        for method in ("BCOP", "RKO", "OSSN"):
            part = runs[(runs.method == method) & (runs.activation == activation)]
            figure.add_scatter(
                x=part.bound, y=[f"{method}, {activation}"] * len(part), mode="markers", showlegend=False, name=method,
                marker={"color": COLORS[method], "symbol": MARKERS[method], "size": 11},
            )  # fmt: skip
    exact = float(runs.exact.iloc[0])
    figure.add_vline(x=exact, line={"color": COLORS["neutral"], "dash": DASHES["Bound"]})
    figure.add_annotation(x=exact, y=1, yref="paper", text="exact", showarrow=False, xanchor="right", xshift=-4)
    figure.update_xaxes(title_text="lower bound on the distance W₁", range=[0, 1.1 * exact])
    figure.update_yaxes(autorange="reversed")
    return describe(
        figure.update_layout(height=320),
        "bcop-critics",
        alt=(
            "Lower bounds on the Wasserstein distance, one row for each method and activation. The bounds of BCOP "
            "are the largest, then those of RKO and OSSN; with ReLU each is smaller than with MaxMin. All are far "
            "below the exact value of the same samples."
        ),
    )


def broken_constraint(runs: pd.DataFrame) -> go.Figure:
    """What a critic claims, and what its measured constant leaves of it, over the learning rate.

    Args:
        runs: One row a run: ``method, lr, estimate, bound, exact``.
    """
    figure = go.Figure()
    for method in dict.fromkeys(runs.method):
        part = runs[runs.method == method].sort_values("lr")
        look = style(method)
        figure.add_scatter(x=part.lr, y=part.estimate, mode="lines+markers", **look | {"name": f"{method}, claimed"})
        faint = look | {"name": f"{method}, divided by its constant", "opacity": 0.5}
        figure.add_scatter(x=part.lr, y=part.bound, mode="lines+markers", **faint)
    exact = float(runs.exact.iloc[0])
    figure.add_hline(y=exact, line={"color": COLORS["neutral"], "dash": DASHES["Bound"]})
    figure.add_annotation(
        x=0, xref="paper", y=math.log10(exact), text="exact", showarrow=False, xanchor="left", yanchor="bottom"
    )
    figure.update_xaxes(**LOG, title_text="learning rate")
    figure.update_yaxes(**LOG, title_text="estimate of W₁")
    return describe(
        figure,
        "bcop-broken-constraint",
        alt=(
            "The estimate of a distance over the learning rate, both axes logarithmic, with the exact value as a "
            "dotted line. BCOP stays below it at every learning rate. OSSN stays below at small learning rates "
            "and at large ones claims up to tens of times the exact value; divided by the measured constant it "
            "is below again."
        ),
    )
