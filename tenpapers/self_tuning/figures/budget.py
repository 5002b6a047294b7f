"""The best validation loss so far against what was spent: tuners beside searches. From recorded runs."""

import plotly.graph_objects as go

from tenpapers.page.look import describe, style
from tenpapers.page.text import number
from tenpapers.self_tuning import runs
from tenpapers.self_tuning.measure import ALL

MEASURES = {"validation": "validation_loss", "test": "test_loss"}


def budget(problem: str = "MLP, digits", loss: str = "validation") -> go.Figure:
    """Loss of the best network so far over the share of the budget, one curve a method, means over seeds.

    Args:
        problem: one of the recorded problems.
        loss: ``validation``, by which the best is chosen, or ``test``.
    """
    recorded = runs.budget.read(problem=problem)
    figure, ends = go.Figure(), {}
    for method in ALL:
        part = recorded[recorded.method == method]
        if part.empty:
            continue
        mean = part.groupby("cost")[MEASURES[loss]].mean()
        figure.add_scatter(x=mean.index, y=mean.to_numpy(), mode="lines+markers", **style(method))
        ends[method] = float(mean.iloc[-1])
    figure.update_xaxes(title_text="spent, in ordinary training steps", rangemode="tozero")
    figure.update_yaxes(title_text=f"{loss} loss of the best network so far")
    figure.update_layout(height=460)
    told = "; ".join(f"{method} {number(value)}" for method, value in sorted(ends.items(), key=lambda item: item[1]))
    return describe(
        figure,
        "self-tuning-budget",
        alt=(
            f"The {loss} loss of the best network found so far over the number of training steps spent, on "
            f"{problem}: one falling curve for each method, the two tuners, the searches, and an ordinary network at "
            "the tuners' start values. "
            "The order at the end is in the line below the figure."
        ),
        summary=f"{problem}, {loss} loss when the budget is spent: {told}.",
    )
