"""Two processes with the same mean and the same covariance: what a Gaussian prior cannot say."""

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.functional_bnn import GaussianProcess, PiecewiseConstant
from tenpapers.functional_bnn.workloads import ornstein_uhlenbeck
from tenpapers.page.look import COLORS, describe, stack


def covariance_twins() -> go.Figure:
    """Three draws of each."""
    grid = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    generator = torch.Generator("cpu").manual_seed(2)
    steps = PiecewiseConstant().sample(grid, 3, generator)
    rough = 0.5 + GaussianProcess(ornstein_uhlenbeck()).sample(grid, 3, generator)
    titles = ["piecewise constant", "Gaussian process"]
    figure = make_subplots(1, 2, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.06)
    for column, values in ((1, steps), (2, rough)):
        for f, color in zip(values, ("BCOP", "RKO", "OSSN"), strict=True):
            line = {"color": COLORS[color], "width": 1.5, "shape": "hv" if column == 1 else "linear"}
            figure.add_scatter(
                x=grid[:, 0].numpy(), y=f.numpy().round(3), mode="lines", line=line, showlegend=False, row=1, col=column
            )
    figure.update_xaxes(title_text="x")
    figure.update_yaxes(title_text="f(x)", row=1, col=1)
    figure.update_layout(height=320)
    return describe(
        figure,
        "fbnn-twins",
        alt=(
            "Left: three step functions with a few jumps. Right: three rough, jagged curves around one half. Both "
            "processes have mean one half and the covariance exp(−3 |x − x'|)/12."
        ),
        narrow=stack(figure, 260),
    )
