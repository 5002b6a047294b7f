"""What does Björck's iteration do to one singular value? Its basin, its speed, and the published starting scale."""

import numpy as np
import plotly.graph_objects as go

from nnlib.lipschitz import BASIN, COEFFICIENTS
from tenpapers.page.look import COLORS, describe
from tenpapers.page.text import number

WIDTHS = (128, 256, 512, 1024)


def after(s: np.ndarray, order: int, steps: int) -> np.ndarray:
    """Singular values after so many steps; NaN once they have run away."""
    s = np.array(s, dtype=float)
    for _ in range(steps):
        s = np.where(
            np.abs(s) < 4, s * sum(a * (1 - s**2) ** i for i, a in enumerate(COEFFICIENTS[: order + 1])), np.nan
        )
    return s


def bjorck_machine(order: int = 1, steps: int = 5) -> go.Figure:
    """Where a singular value is after so many steps, over where it started.

    Args:
        order: Of the iteration, 1 to 4.
        steps: How many.
    """
    start = np.concatenate([np.linspace(0, 0.1, 21)[:-1], np.linspace(0.1, 1.9, 91)])
    end = after(start, order, steps)
    # Published: an orthogonal start with gain 1/sqrt(n), divided by sqrt(n n).
    official = {width: float(after(np.array([width**-1.5]), order, steps)[0]) for width in WIDTHS}
    figure = go.Figure()
    figure.add_vrect(x0=BASIN[order], x1=1.9, fillcolor=COLORS["ReLU"], opacity=0.15, line_width=0)
    figure.add_hline(y=1, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"})
    figure.add_scatter(
        x=start,
        y=np.clip(end, -1.6, 1.6).round(4),
        name="after the steps",
        mode="lines",
        line={"color": COLORS["MaxMin"], "width": 2},
    )
    figure.add_scatter(
        x=[width**-1.5 for width in WIDTHS],
        y=list(official.values()),
        name="published start, width 128 … 1,024",
        mode="markers",
        marker={"color": COLORS["tanh"], "symbol": "diamond-wide", "size": 9},
        customdata=list(WIDTHS),
        hovertemplate="width %{customdata}: %{y:.3f}<extra></extra>",
    )
    figure.update_xaxes(title_text="singular value at the start", range=[-0.03, 1.9])
    figure.update_yaxes(title_text=f"after {steps} steps", range=[-1.6, 1.6])
    return describe(
        figure,
        "groupsort-bjorck",
        alt=(
            f"A singular value after {steps} steps of order {order} over its start. The curve rises from 0 to a "
            f"plateau at 1 that widens with the steps; right of {BASIN[order]:.3f}, shaded, it leaves the plateau. "
            "Four marks near the left end show where the published scaling starts at four widths."
        ),
        summary=(
            f"Order {order}, {steps} steps: with the published start, width 128 is at {number(official[128])} and "
            f"width 1,024 at {number(official[1024])}; 1 is wanted. The basin ends at {number(BASIN[order], 4)}."
        ),
    )
