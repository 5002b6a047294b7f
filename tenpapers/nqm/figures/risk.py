"""How do bias and variance of the risk go over time, and which directions carry them?"""

from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.nqm import SGD, HeavyBall, IterateAverage, expected_risk, risk_per_eigenvalue
from tenpapers.nqm.figures.curves import PROBLEM
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number


def risk_over_time(lr: float = 0.5, batch_size: int = 64, method: str = "SGD") -> go.Figure:
    """Bias and variance of the risk over the steps, and which directions of the spectrum carry the risk.

    Args:
        lr: learning rate as a share of the stability limit of SGD times (1 - momentum), in (0, 1).
        batch_size: examples a batch.
        method: ``SGD``, ``Momentum`` (0.9) or ``EMA`` (0.999).
    """
    chosen = {
        "SGD": SGD(lr=2 * lr),
        "Momentum": HeavyBall(lr=2 * lr * (1 - 0.9), momentum=0.9),
        "EMA": IterateAverage(lr=2 * lr, decay=0.999),
    }[method]
    steps = np.unique(np.geomspace(1, 1e5, 36).round())
    risk = expected_risk(PROBLEM, chosen, steps)
    noise = risk.variance / batch_size
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    figure.add_scatter(x=steps, y=risk.bias + noise, **style(method) | {"name": "risk", "mode": "lines"}, row=1, col=1)
    figure.add_scatter(
        x=steps,
        y=risk.bias,
        name="bias",
        mode="lines",
        line={"color": COLORS["Momentum"], "dash": "6px,3px"},
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=steps,
        y=noise,
        name="variance / B",
        mode="lines",
        line={"color": COLORS["EMA"], "dash": "2px,3px"},
        row=1,
        col=1,
    )
    figure.add_hline(y=0.01, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"}, row=1, col=1)  # pyright: ignore[reportArgumentType]
    groups = np.unique(
        np.geomspace(1, PROBLEM.dim, 13).round().astype(int)
    )  # edges of groups of i, each wider than the last
    few = np.unique(np.geomspace(1, 1e5, 19).round())
    modes = risk_per_eigenvalue(PROBLEM, chosen, few)
    each = np.add.reduceat(modes.bias + modes.variance / batch_size, groups[:-1] - 1, axis=1)  # (times, groups)
    figure.add_heatmap(
        x=few,
        y=[f"{low:,}–{high - 1:,}" if high - 1 > low else f"{low:,}" for low, high in pairwise(groups)],
        z=np.log10(np.maximum(each.T, 1e-6)).round(2),
        zmin=-5,
        zmax=0,
        colorbar={"len": 0.4, "y": 0.19, "thickness": 10, "title": "log₁₀"},
        row=2,
        col=1,
    )
    figure.update_xaxes(**LOG, range=[0, 5])
    figure.update_xaxes(title_text="step", row=2)
    figure.update_yaxes(**LOG, title_text="risk", range=[-4, 1.2], row=1)
    figure.update_yaxes(title_text="direction i", autorange="reversed", row=2, type="category", nticks=8)
    figure.update_layout(height=600)
    total = risk.bias + noise
    below = np.flatnonzero(total < 0.01)
    reached = (
        f"below 0.01 by step {number(int(steps[below[0]]))}" if below.size else "never below 0.01 in 100,000 steps"
    )
    last = "noise" if noise[-1] > risk.bias[-1] else "bias"
    return describe(
        figure,
        "nqm-risk-over-time",
        alt=(
            "Top: the risk over the steps, as the sum of a falling bias and a rising, then constant, variance "
            "divided by the batch size; a dotted line marks the target 0.01. Bottom: a heat map of the risk "
            "carried by groups of directions; the steep directions lose their risk first, the flat ones last."
        ),
        summary=f"{method}: {reached}. After 100,000 steps the risk is {number(float(total[-1]))}, mostly {last}.",
    )
