"""The chapter's recorded tables as pictures: conditions over width, rates over conditioning, noise in the labels."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.page.look import COLORS, LOG, describe, stack, style

LOOKS = {"sphere": "Natural gradient", "digits": "Adam", "mnist": "Momentum"}  # colours for data sets


def _look(data: str) -> dict:
    return style(LOOKS[data]) | {"name": data, "legendgroup": data, "mode": "lines+markers"}


def conditions(runs: pd.DataFrame) -> go.Figure:
    """How both conditions depend on the width: three panels of the natural gradient's runs with lr 0.3.

    Args:
        runs: The recorded table: columns data, method, lr, width, drift, movement, constant.
    """
    chosen = runs[(runs.method == "Natural gradient") & (runs.lr == 0.3)]
    panels = {"drift": "|λ_min(G) / λ₀ − 1|", "movement": "|W − W(0)| / |W(0)|", "constant": "C of condition 2"}
    figure = make_subplots(1, 3, subplot_titles=list(panels.values()), horizontal_spacing=0.09)
    for data in chosen.data.unique():
        medians = chosen[chosen.data == data].groupby("width")[list(panels)].median()
        for col, column in enumerate(panels, start=1):
            figure.add_scatter(x=medians.index, y=medians[column], **_look(data), showlegend=col == 1, row=1, col=col)
    figure.add_hline(y=0.5, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"}, row=1, col=3)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(**LOG, title="width m")
    figure.update_yaxes(**LOG)
    return describe(
        figure,
        "natural-gradient-conditions",
        alt=(
            "Three panels over the width, all axes logarithmic, a curve for each data set. The deviation of the "
            "smallest eigenvalue from its limit and the relative movement of the weights fall about as one over "
            "the root of the width; the constant C of the second condition falls more slowly and stays above the "
            "dotted line at one half."
        ),
        narrow=stack(figure, 240),
    )


def conditioning(table: pd.DataFrame, steps: int) -> go.Figure:
    """What a number of steps leaves of the difference of two close examples' residuals, over lambda_0.

    Args:
        table: Columns method, width, gap, limit, pair.
        steps: How many steps the table's runs took.
    """
    widths = sorted(table.width.unique())
    titles = [f"width {width:,}" for width in widths]
    figure = make_subplots(1, len(widths), subplot_titles=titles, shared_yaxes=True)
    for col, width in enumerate(widths, start=1):
        for method in ("GD", "K-FAC", "Natural gradient"):
            rows = table[(table.width == width) & (table.method == method)]
            medians = rows.groupby("gap")[["limit", "pair"]].median()
            look = style(method) | {"mode": "lines+markers", "showlegend": col == 1}
            figure.add_scatter(x=medians.limit, y=medians.pair, row=1, col=col, **look)
        ideal = {"color": COLORS["neutral"], "width": 1, "dash": "dot"}
        figure.add_hline(y=0.7**steps, line=ideal, row=1, col=col)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(**LOG, title="λ₀")
    figure.update_yaxes(**LOG)
    figure.update_yaxes(title=f"left after {steps} steps", row=1, col=1)
    return describe(
        figure,
        "natural-gradient-conditioning",
        alt=(
            "A panel for each width: the share that is left of the difference of two residuals, over the smallest "
            "eigenvalue of the limiting Gram matrix, both logarithmic. Gradient descent and K-FAC leave nearly all "
            "where the eigenvalue is small. The natural gradient lies on the dotted ideal where the eigenvalue is "
            "large, and rises from it as the eigenvalue shrinks, later the wider the network."
        ),
        narrow=stack(figure),
    )


def noise(table: pd.DataFrame) -> go.Figure:
    """The bound's quantity and the measured test errors, over the share of flipped labels.

    Args:
        table: Columns share, complexity, network_error, kernel_error.
    """
    figure = make_subplots(1, 2, subplot_titles=["√(yᵀG∞⁻¹y / n)", "test error"])
    medians = table.groupby("share")[["complexity", "network_error", "kernel_error"]].median()
    quantity = style("neutral") | {"mode": "lines+markers", "showlegend": False}
    figure.add_scatter(x=medians.index, y=medians.complexity, **quantity, row=1, col=1)
    trained = style("Natural gradient") | {"name": "trained network", "mode": "lines+markers"}
    infinite = style("neutral") | {"name": "infinite width", "mode": "lines+markers"}
    figure.add_scatter(x=medians.index, y=medians.network_error, **trained, row=1, col=2)
    figure.add_scatter(x=medians.index, y=medians.kernel_error, **infinite, row=1, col=2)
    figure.update_xaxes(title="share of flipped training labels")
    figure.update_yaxes(rangemode="tozero")
    return describe(
        figure,
        "natural-gradient-noise",
        alt=(
            "Two panels over the share of flipped labels, from 0 to one half. Left, the root of y'G⁻¹y/n rises and "
            "flattens. Right, the test errors of a trained network and of its infinite limit rise from nearly 0 to "
            "about one half."
        ),
        narrow=stack(figure),
    )


def pairs(table: pd.DataFrame) -> go.Figure:
    """Test error of the infinitely wide network over the bound's quantity, a point for each pair of classes.

    Args:
        table: Columns first, second, complexity, kernel_error.
    """
    names = [f"{a} and {b}" for a, b in zip(table["first"], table.second, strict=True)]
    named = {table.complexity.idxmin(), table.complexity.idxmax(), table.kernel_error.idxmax()}
    figure = go.Figure()
    figure.add_scatter(
        x=table.complexity,
        y=table.kernel_error,
        mode="markers+text",
        marker=style("Natural gradient")["marker"] | {"size": 9, "opacity": 0.8},
        text=[name if i in named else "" for i, name in zip(table.index, names, strict=True)],
        textposition="top center",
        hovertext=names,
        cliponaxis=False,
        showlegend=False,
    )
    figure.update_xaxes(title="√(yᵀG∞⁻¹y / n)")
    figure.update_yaxes(title="test error", range=[0, 1.1 * table.kernel_error.max()])
    return describe(
        figure,
        "natural-gradient-pairs",
        alt=(
            "A cloud of 45 points, one for each pair of classes: the test error over the root of y'G⁻¹y/n. Both are "
            "small for pairs such as 0 and 1, and the pairs with the largest quantity, 4 and 9 among them, have the "
            "largest errors."
        ),
    )
