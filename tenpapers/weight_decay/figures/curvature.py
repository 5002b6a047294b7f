"""Mechanism 3 in a network: the curvature of the normalised weights, and the damping beside it, over training."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.page.look import COLORS, LOG, describe, stack, style

PANELS = {"none": "no decay", "decoupled": "decoupled decay"}


def curvature_over_training(runs: pd.DataFrame) -> go.Figure:
    """Trace of the Fisher and of the Gauss-Newton block of the first layer at W/|W|, and the damping it competes with.

    Args:
        runs: columns ``decay, epoch, fisher, gauss_newton, effective_damping``, of one seed.
    """
    titles = [PANELS[decay] for decay in PANELS]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1, shared_yaxes=True)
    dotted = {"color": COLORS["neutral"], "dash": "2px,3px", "width": 2}
    for col, decay in enumerate(PANELS, start=1):
        part = runs[runs.decay == decay]
        if part.empty:
            raise ValueError(f"no run with decay {decay!r}: there are {sorted(set(runs.decay))}")
        for column, name, look in (
            ("gauss_newton", "Gauss–Newton, trace", style("K-FAC-G")),
            ("fisher", "Fisher, trace", style("K-FAC-F")),
            ("effective_damping", "effective damping |W|²λ", {"line": dotted}),
        ):
            drawn = look | {"name": name, "legendgroup": name, "showlegend": col == 1, "mode": "lines"}
            figure.add_scatter(x=part.epoch, y=part[column], **drawn, row=1, col=col)
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(**LOG)
    return describe(
        figure,
        "weight-decay-curvature",
        alt=(
            "Two panels over the epochs of training, logarithmic: without decay on the left, with decay on the right. "
            "The Gauss-Newton trace of the normalised first layer changes little or rises; the Fisher trace falls by "
            "orders of magnitude as predictions become certain. The effective damping rises without decay and falls "
            "with it."
        ),
        narrow=stack(figure),
    )
