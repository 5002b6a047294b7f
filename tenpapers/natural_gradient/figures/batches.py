"""How much slower is a small batch, and how much of that is conditioning?"""

import pandas as pd
import plotly.graph_objects as go

from tenpapers.page.look import LOG, describe, style

LOOKS = {1.0: "Natural gradient", 0.3: "Adam", 0.1: "Momentum"}  # colours for angles


def passes(table: pd.DataFrame) -> go.Figure:
    """Passes over the data at infinite width over the batch size, a curve for each angle of the two close points.

    Args:
        table: Columns gap, batch_size, epochs.
    """
    figure = go.Figure()
    ends = {}
    for gap in sorted(table.gap.unique(), reverse=True):
        part = table[table.gap == gap].groupby("batch_size")["epochs"]
        mean, error = part.mean(), part.sem()
        ends[gap] = mean
        bars = {"array": 2 * error, "thickness": 1}
        look = style(LOOKS[gap]) | {"name": f"angle {gap:g}", "mode": "lines+markers"}
        figure.add_scatter(x=mean.index, y=mean, error_y=bars, **look)
    sizes = sorted(table.batch_size.unique())
    figure.update_xaxes(type="log", tickvals=sizes, ticktext=[str(size) for size in sizes], title="batch size, of 24")
    figure.update_yaxes(**LOG, title="passes to 1 % of |u − y|")
    told = "; ".join(f"angle {gap:g}: {mean.iloc[0]:.0f} at batch size 1" for gap, mean in ends.items())
    return describe(
        figure,
        "natural-gradient-passes",
        alt=(
            "Passes over 24 points until 1 % of the distance is left, over the batch size, both logarithmic, a curve "
            "for each angle between two of the points. With all 24 in the batch all curves are at one. They rise "
            f"together at first, and part where the batch is small. Means: {told}."
        ),
    )
