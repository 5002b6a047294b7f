"""Figures of the chapter on the noisy quadratic model; each is a pure function of what its controls say.

Chapter: ``book/nqm.ipynb``.
"""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.figures import COLORS, LOG, describe, stack, style
from nnlib.nqm import (
    SGD,
    HeavyBall,
    IterateAverage,
    NoisyQuadratic,
    Schedule,
    StepsCurve,
    critical_batch_size,
    examples_lower_bound,
    expected_risk,
    gradient_noise_scale,
    optimal_schedule,
    risk_per_eigenvalue,
    steps_to_target,
)
from nnlib.text import number

METHODS = {"SGD": SGD, "Momentum": HeavyBall, "EMA": IterateAverage}
DEFINITIONS = ("asymptotes", "doubling", "hyperbola")
BATCH_SIZES = 2 ** np.arange(2, 21)  # 4 ... 1,048,576
PROBLEM = NoisyQuadratic()

_EXPONENTS = range(2, 21, 3)
BATCH_AXIS = {
    "type": "log",
    "tickvals": [2**k for k in _EXPONENTS],
    "ticktext": [f"2<sup>{k}</sup>" for k in _EXPONENTS],
    "range": [np.log10(3), np.log10(1.4 * 2**20)],
}


@lru_cache(maxsize=256)
def curve(method: str, power: float, target: float) -> StepsCurve:
    """The tuned curve of one method over ``BATCH_SIZES``, computed once."""
    return steps_to_target(PROBLEM, METHODS[method], BATCH_SIZES, target, power)


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
        look = style(name) | {"opacity": 1 if chosen else 0.45, "mode": "lines+markers" if chosen else "lines"}
        for row, y in enumerate((tuned.steps, tuned.effective_lr, tuned.examples), start=1):
            figure.add_scatter(x=BATCH_SIZES, y=y, row=row, col=1, **look, showlegend=row == 1)
    tuned = curve(method, power, target)
    floor = steps_to_target(PROBLEM, METHODS[method], [np.inf], target, power).steps[0]
    bound = examples_lower_bound(PROBLEM, target)
    ends = BATCH_SIZES[[0, -1]]
    start = tuned.examples[0]
    thin = {"color": COLORS[method], "width": 1, "dash": "2px,4px"}
    corner = [ends[0], start / floor, ends[1]]
    figure.add_scatter(
        x=corner, y=[start / ends[0], floor, floor], line=thin, name="asymptotes", mode="lines", row=1, col=1
    )
    lower = style("Bound") | {"name": "no method can be below", "mode": "lines"}
    figure.add_scatter(x=ends, y=np.maximum(bound / ends, 1), row=1, col=1, **lower)
    figure.add_scatter(x=ends, y=[bound, bound], row=3, col=1, **lower, showlegend=False)
    critical = {name: critical_batch_size(tuned, definition=name) for name in DEFINITIONS}
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
    figure.add_hline(y=0.01, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"}, row=1, col=1)
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
            "Top: the risk over the steps, as the sum of a falling bias and a rising, then constant, variance divided by "
            "the batch size; a dotted line marks the target 0.01. Bottom: a heat map of the risk carried by groups of "
            "directions; the steep directions lose their risk first, the flat ones last."
        ),
        summary=f"{method}: {reached}. After 100,000 steps the risk is {number(float(total[-1]))}, mostly {last}.",
    )


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
    figure.add_hline(y=target, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"}, row=1, col=2)
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


def learning_rates(power: float = 0.0, target: float = 0.01) -> go.Figure:
    """The best learning rate over the batch size beside the straight line of proportionality, for SGD and momentum."""
    figure = go.Figure()
    for name in ("SGD", "Momentum"):
        tuned = curve(name, power, target)
        figure.add_scatter(
            x=BATCH_SIZES, y=tuned.effective_lr, **style(name) | {"name": f"{name}, lr/(1−β)"}, mode="lines+markers"
        )
    momentum = curve("Momentum", power, target)
    faint = style("Momentum") | {"name": "Momentum, lr", "opacity": 0.45, "mode": "lines"}
    figure.add_scatter(x=BATCH_SIZES, y=momentum.lr, **faint)
    sgd = curve("SGD", power, target)
    limit = 2 / PROBLEM.h[0] ** (1 - power)
    bound = style("Bound") | {"mode": "lines"}
    figure.add_scatter(
        x=BATCH_SIZES, y=sgd.lr[0] * BATCH_SIZES / BATCH_SIZES[0], **bound | {"name": "proportional to B"}
    )
    figure.add_hline(
        y=limit, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"}, annotation_text="SGD is stable below"
    )
    figure.update_xaxes(**BATCH_AXIS, title_text="batch size B")
    figure.update_yaxes(**LOG, title_text="best learning rate", range=[-2.3, 2.6])
    return describe(
        figure,
        "nqm-learning-rates",
        alt=(
            "Best learning rate over the batch size, on logarithmic axes. SGD's follows the line of proportionality up "
            "to a batch size of about 500 and then saturates just under 2. Momentum's effective learning rate coincides "
            "with it and goes on rising to about 80; its plain learning rate saturates below 4."
        ),
    )


def noise_scale(batch_sizes: tuple[int, ...] = (16, 256, 4096), power: float = 0.0, target: float = 0.01) -> go.Figure:
    """The gradient noise scale tr(HC) / g'Hg along tuned SGD runs, against the share of the run that is done."""
    figure = go.Figure()
    for batch_size, dash in zip(batch_sizes, ("solid", "dash", "dot"), strict=False):
        tuned = steps_to_target(PROBLEM, SGD, [batch_size], target, power)
        steps = np.unique(np.linspace(0, tuned.steps[0], 40).round())
        scale = gradient_noise_scale(PROBLEM, tuned.method(0), batch_size, steps).curvature
        line = {"color": COLORS["SGD"], "dash": dash}
        figure.add_scatter(
            x=100 * steps / steps[-1], y=scale, name=f"B = {number(batch_size)}", mode="lines", line=line
        )
    knee = critical_batch_size(curve("SGD", power, target), definition="asymptotes")
    figure.add_hline(
        y=knee,
        line={"color": COLORS["neutral"], "width": 1, "dash": "dot"},
        annotation_text="where the asymptotes cross",
    )
    figure.update_xaxes(title_text="% of the run to the target")
    figure.update_yaxes(**LOG, title_text="gradient noise scale")
    return describe(
        figure,
        "nqm-noise-scale",
        alt=(
            "The gradient noise scale over the run for three batch sizes, on a logarithmic axis. It starts near 1.4 and "
            "rises by orders of magnitude as the gradient shrinks; a dotted line marks the critical batch size from the "
            "asymptotes."
        ),
    )
