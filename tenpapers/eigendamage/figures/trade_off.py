"""Accuracy against what is left, for every method; and what each method left of each layer. From recorded runs."""

from functools import lru_cache

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.eigendamage import METHODS, prunable
from nnlib.plain import layer_of
from tenpapers.eigendamage import runs as tables
from tenpapers.eigendamage.workloads import WORKLOADS
from tenpapers.page.look import COLORS, describe, stack, style
from tenpapers.page.text import number

STAGES = {
    "right after pruning": "accuracy",
    "new batch statistics": "accuracy_bn",
    "fine-tuned": "accuracy_finetuned",
}
AXES = {
    "parameters": "parameters left, %",
    "operations": "operations left, %",
    "activations": "activations that training keeps, %",
    "time": "time of a forward pass, %",
}
COLUMNS = {"parameters": "parameters", "operations": "flops", "activations": "activations", "time": "time"}


@lru_cache
def recorded() -> pd.DataFrame:
    """The recorded runs: one row a network, method, seed and ratio."""
    frame = tables.trade_off.read()
    numbers = [*STAGES.values(), *COLUMNS.values()]
    return frame.astype(dict.fromkeys(numbers, float))  # where not fine-tuned, None becomes NaN


def trade_off(
    network: str = "VGG", stage: str = "new batch statistics", against: str = "parameters", ratio: float = 0.5
) -> go.Figure:
    """Accuracy over what is left, all methods, means over seeds; large points at one ratio.

    Args:
        network: one of the recorded networks.
        stage: when accuracy is measured, a key of ``STAGES``.
        against: a key of ``AXES``.
        ratio: share of filters, or of rows and columns, that goes.
    """
    runs = recorded()
    runs = runs[(runs.workload == network) & runs[STAGES[stage]].notna()]
    figure, told = go.Figure(), []
    for method in METHODS:
        part = runs[runs.method == method]
        if part.empty:
            continue
        mean = part.groupby("ratio")[[COLUMNS[against], STAGES[stage]]].mean()
        x, y = 100 * mean[COLUMNS[against]], 100 * mean[STAGES[stage]]
        look = style(method)
        sizes = [13 if r == ratio else 6 for r in mean.index]
        look["marker"] = look["marker"] | {"size": sizes}
        figure.add_scatter(x=x, y=y, mode="lines+markers", text=[f"ratio {r:g}" for r in mean.index], **look)
        if ratio in mean.index:
            told.append(f"{method} {number(y[ratio])} % at {number(x[ratio])} %")
    figure.update_xaxes(title_text=AXES[against], rangemode="tozero")
    figure.update_yaxes(title_text="test accuracy, %", range=[0, 103])
    figure.update_layout(height=480)
    what = "no run of this kind at this ratio" if not told else "; ".join(told)
    return describe(
        figure,
        "eigendamage-trade-off",
        alt=(
            f"Test accuracy, {stage}, over {AXES[against]}, one curve a method, on the network {network}. All curves "
            "rise to the right. The points of one ratio are large: at the same ratio EigenDamage lies further right "
            "and higher than the methods that remove filters."
        ),
        summary=f"{network}, ratio {ratio:g}, {stage} (accuracy, and what is left of {against}): {what}.",
    )


@lru_cache
def _shapes(network: str) -> list[tuple[int, int]]:
    """Outputs and inputs of each layer that can be pruned, in the order in which they run."""
    workload = WORKLOADS[network]
    model = workload.build()
    names = prunable(model, workload.data().train.x[:1])
    shapes = [layer_of(model, name).weight.shape for name in names]
    return [(shape[0], shape[1]) for shape in shapes]


def layers(method: str = "EigenDamage", ratio: float = 0.5, network: str = "VGG") -> go.Figure:
    """How many outputs and inputs of each layer a method keeps.

    Args:
        method: one of ``METHODS``.
        ratio: share that goes.
        network: one of the recorded networks.
    """
    runs = recorded()
    runs = runs[(runs.workload == network) & (runs.seed == 0)]
    row = runs[(runs.method == method) & (runs.ratio == ratio)].iloc[0]
    sides = ("outputs", "inputs")
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1, subplot_titles=sides)
    for column, side in enumerate(sides, start=1):
        total = [shape[column - 1] for shape in _shapes(network)]
        # A method that removes filters takes the readers' channels with them: the graph, not a score, decides.
        kept = [int(n) for n in str(row[f"{side}_kept"]).split()] if row[f"{side}_kept"] else None
        places = list(range(1, len(total) + 1))
        figure.add_bar(x=places, y=total, marker={"color": "rgba(128,128,128,0.3)"}, name="before", row=1, col=column)
        if kept:
            figure.add_bar(x=places, y=kept, marker={"color": COLORS[method]}, name=method, row=1, col=column)
    figure.update_traces(showlegend=False, col=2)
    figure.update_layout(barmode="overlay", height=380)
    figure.update_xaxes(title_text="layer", dtick=1)
    accuracy = "–" if pd.isna(row.accuracy_bn) else number(100 * row.accuracy_bn)
    return describe(
        figure,
        "eigendamage-layers",
        alt=(
            "Bars for each layer in the order in which they run: grey, the outputs (left) and inputs (right) before "
            "pruning; in colour, those that the method keeps. Methods that remove filters have no scores of inputs."
        ),
        summary=(
            f"{method}, ratio {ratio:g} on {network}: {number(100 * row.parameters)} % of the parameters and "
            f"{number(100 * row.flops)} % of the operations are left; {accuracy} % accuracy with new batch statistics."
        ),
        narrow=stack(figure),
    )
