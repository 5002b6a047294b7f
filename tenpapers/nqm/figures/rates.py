"""How do the best learning rate and the gradient noise scale depend on the batch size?"""

import numpy as np
import plotly.graph_objects as go

from nnlib.nqm import SGD, critical_batch_size, gradient_noise_scale, steps_to_target
from tenpapers.nqm.figures.curves import BATCH_AXIS, BATCH_SIZES, PROBLEM, curve
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number


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
    _mark(figure, limit, "SGD is stable below")
    figure.update_xaxes(**BATCH_AXIS, title_text="batch size B")
    figure.update_yaxes(**LOG, title_text="best learning rate", range=[-2.3, 2.6])
    return describe(
        figure,
        "nqm-learning-rates",
        alt=(
            "Best learning rate over the batch size, on logarithmic axes. SGD's follows the line of "
            "proportionality up to a batch size of about 500 and then saturates just under 2. Momentum's "
            "effective learning rate coincides with it and goes on rising to about 90; its plain learning rate "
            "saturates below 4."
        ),
    )


def noise_scale(batch_sizes: tuple[int, ...] = (16, 256, 4096), power: float = 0.0, target: float = 0.01) -> go.Figure:
    """The gradient noise scale tr(HC) / g'Hg along tuned SGD runs, from the first step to the target."""
    figure = go.Figure()
    for batch_size, dash in zip(batch_sizes, ("solid", "dash", "dot"), strict=False):
        tuned = steps_to_target(PROBLEM, SGD, [batch_size], target, power)
        steps = np.unique(np.geomspace(1, tuned.steps[0], 40).round())
        scale = gradient_noise_scale(PROBLEM, tuned.method(0), batch_size, steps).curvature
        line = {"color": COLORS["SGD"], "dash": dash}
        figure.add_scatter(x=steps, y=scale, name=f"B = {number(batch_size)}", mode="lines", line=line)
    knee = critical_batch_size(curve("SGD", power, target), definition="asymptotes")
    _mark(figure, knee, "where the asymptotes cross")
    figure.update_xaxes(**LOG, title_text="step")
    figure.update_yaxes(**LOG, title_text="gradient noise scale")
    return describe(
        figure,
        "nqm-noise-scale",
        alt=(
            "The gradient noise scale over the steps of three runs, both axes logarithmic. It starts below 10 and "
            "rises to several hundred, where it stays until the target is reached; a dotted line marks the critical "
            "batch size from the asymptotes, a little above."
        ),
    )


def _mark(figure: go.Figure, y: float, words: str) -> None:
    """A dotted level with words above its right end, on a logarithmic axis (plotly places words by the logarithm)."""
    figure.add_hline(y=y, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"})
    figure.add_annotation(x=1, xref="paper", y=np.log10(y), text=words, showarrow=False, xanchor="right", yshift=9)
