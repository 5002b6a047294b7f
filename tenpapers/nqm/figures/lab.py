"""Which method needs how many steps at which batch size?"""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.nqm import critical_batch_size, examples_lower_bound
from tenpapers.nqm.figures.curves import BATCH_AXIS, BATCH_SIZES, METHODS, PROBLEM, curve
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number

DEFINITIONS = ("asymptotes", "doubling", "hyperbola")


def batch_size_lab(power: float = 0.0, target: float = 0.01, method: str = "SGD") -> go.Figure:
    """Steps to the target, best learning rate and examples processed, over the batch size, for every method.

    Args:
        power: power p of the preconditioner, in [0, 1].
        target: risk to reach.
        method: the method that is drawn strongly, with its line of perfect scaling and its critical batch sizes.
    """
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.045, row_heights=[0.5, 0.25, 0.25])
    for name in METHODS:
        tuned, chosen = curve(name, power, target), name == method
        look = style(name) | {"opacity": 1 if chosen else 0.6, "mode": "lines+markers" if chosen else "lines"}
        for row, y in enumerate((tuned.steps, tuned.effective_lr, tuned.examples), start=1):
            figure.add_scatter(x=BATCH_SIZES, y=y, row=row, col=1, **look, showlegend=row == 1)
    tuned = curve(method, power, target)
    bound = examples_lower_bound(PROBLEM, target)
    ends = BATCH_SIZES[[0, -1]]
    start = tuned.examples[0]
    thin = {"color": COLORS[method], "width": 1, "dash": "2px,4px"}
    critical = {name: critical_batch_size(tuned, definition=name) for name in DEFINITIONS}
    corner = critical["asymptotes"]
    floor = start / corner
    figure.add_scatter(
        x=[ends[0], corner, ends[1]],
        y=[start / ends[0], floor, floor],
        line=thin,
        name="asymptotes",
        mode="lines",
        row=1,
        col=1,
    )
    lower = style("Bound") | {"name": "no method can be below", "mode": "lines"}
    figure.add_scatter(x=ends, y=np.maximum(bound / ends, 1), row=1, col=1, **lower)
    figure.add_scatter(x=ends, y=[bound, bound], row=3, col=1, **lower, showlegend=False)
    at = np.array(list(critical.values()))
    figure.add_scatter(
        x=at,
        y=np.exp(np.interp(np.log(at), np.log(BATCH_SIZES), np.log(tuned.steps))),
        mode="markers",
        marker={
            "symbol": ["circle-open", "square-open", "diamond-open"],
            "size": 12,
            "line": {"width": 2},
            "color": COLORS[method],
        },
        text=list(critical),
        name="critical batch size",
        row=1,
        col=1,
    )
    figure.update_xaxes(**BATCH_AXIS)
    figure.update_xaxes(title_text="batch size B", row=3)
    figure.update_yaxes(**LOG)
    for row, title in enumerate(("steps to target", "best lr/(1−β)", "examples"), start=1):
        figure.update_yaxes(title_text=title, row=row)
    figure.update_layout(height=640)
    words = ", ".join(f"{number(round(value))} ({name})" for name, value in critical.items())
    return describe(
        figure,
        "nqm-batch-size-lab",
        alt=(
            "Three panels over the batch size, from 4 to a million. Top: fewest steps to the target; each method falls "
            "along a straight line and then turns flat, the averaged iterate lowest at small batches, momentum lowest "
            "at large ones. Middle: the best effective learning rate rises in proportion to the batch size and then "
            "saturates, for momentum last. Bottom: examples processed, flat and then rising."
        ),
        summary=(
            f"{method}, p = {power:g}, target {target:g}: {number(int(tuned.steps[0]))} steps at batch size 4, "
            f"{number(int(tuned.steps[-1]))} at 2²⁰. Critical batch size: {words}."
        ),
    )
