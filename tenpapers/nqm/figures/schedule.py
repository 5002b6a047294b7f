"""What does the best learning-rate schedule look like?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.nqm import SGD, Schedule, StepsCurve, expected_risk, optimal_schedule, steps_to_target
from tenpapers.nqm.figures.curves import PROBLEM
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number


def schedule(batch_size: int = 256, power: float = 0.0, pieces: int = 50, target: float = 0.01) -> go.Figure:
    """The best piecewise constant learning rate, and the risk along it beside the best constant one.

    Args:
        batch_size: examples a batch.
        power: power p of the preconditioner, in [0, 1].
        pieces: number of pieces of equal length.
        target: risk to reach.
    """
    best, constant = _schedule(batch_size, power, pieces, target)
    share = np.linspace(0, 1, pieces + 1)
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.13, subplot_titles=("learning rate", "risk"))
    line = {"mode": "lines"}
    figure.add_scatter(
        x=100 * share,
        y=[*best.lrs, best.lrs[-1]],
        **style("Schedule") | {"name": f"best schedule: {number(int(best.steps))} steps"},
        **line,
        line_shape="hv",
        row=1,
        col=1,
    )
    figure.add_scatter(
        x=[0, 100],
        y=[constant.lr[0]] * 2,
        **style("SGD") | {"name": f"best constant: {number(int(constant.steps[0]))} steps"},
        **line,
        row=1,
        col=1,
    )
    for method, name, total in ((best, "Schedule", best.steps), (constant.method(0), "SGD", int(constant.steps[0]))):
        t = np.unique((share * total).round())
        risk = expected_risk(PROBLEM, method, t).at(batch_size)
        figure.add_scatter(x=t, y=risk, **style(name), **line, showlegend=False, row=1, col=2)
    figure.add_hline(y=target, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"}, row=1, col=2)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(title_text="% of the run", row=1, col=1)
    figure.update_xaxes(title_text="step", row=1, col=2, rangemode="tozero")
    figure.update_yaxes(**LOG, row=1, col=1)
    figure.update_yaxes(**LOG, row=1, col=2)
    figure.update_layout(height=420)
    held = int((np.array(best.lrs) > 0.99 * max(best.lrs)).sum())
    saved = 1 - best.steps / constant.steps[0]
    return describe(
        figure,
        "nqm-schedule",
        alt=(
            "Left: the best learning rate over the run stays at its limit at first and then falls, fastest at the end; "
            "the best constant learning rate is a level line below the limit. Right: the risk along both, the "
            "schedule's falling late and reaching the target in fewer steps."
        ),
        summary=(
            f"Batch size {number(batch_size)}, p = {power:g}: {held} of {pieces} pieces at the limit, last learning "
            f"rate {number(best.lrs[-1])}. {number(int(best.steps))} steps, {number(100 * saved, 2)} % fewer than the "
            "best constant."
        ),
        narrow=stack(figure),
    )


@lru_cache(maxsize=256)
def _schedule(batch_size: int, power: float, pieces: int, target: float) -> tuple[Schedule, StepsCurve]:
    best = optimal_schedule(PROBLEM, batch_size, target, pieces=pieces, power=power)
    return best, steps_to_target(PROBLEM, SGD, [batch_size], target, power)
