"""How many steps to the target, by optimiser and batch size, on digits?"""

import pandas as pd
import plotly.graph_objects as go

from tenpapers.page.look import LOG, describe, style


def steps_to_target(tuned: pd.DataFrame) -> go.Figure:
    """Steps to the target over the batch size: medians over seeds, with bars from the best seed to the worst.

    Args:
        tuned: One row for each optimiser and batch size: ``optimizer, batch_size, steps, low, high``.
    """
    figure = go.Figure()
    for name, rows in tuned.groupby("optimizer", sort=False):
        rows = rows.sort_values("batch_size")
        bars = {"array": rows.high - rows.steps, "arrayminus": rows.steps - rows.low, "thickness": 1}
        figure.add_scatter(x=rows.batch_size, y=rows.steps, error_y=bars, mode="lines+markers", **style(str(name)))
    sizes = sorted(tuned.batch_size.unique())
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[f"{size:,}" for size in sizes], title="batch size")
    figure.update_yaxes(**LOG, title="steps to a training loss of 0.05")
    ends = {name: rows.sort_values("batch_size").steps for name, rows in tuned.groupby("optimizer", sort=False)}
    told = ", ".join(f"{name} {steps.iloc[0]:.0f} to {steps.iloc[-1]:.0f}" for name, steps in ends.items())
    return describe(
        figure,
        "curvature-steps",
        alt=(
            "Steps to the target over the batch size, both axes logarithmic; all curves fall and flatten. From the "
            f"smallest batch to the largest: {told}."
        ),
    )
