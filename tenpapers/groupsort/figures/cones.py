"""How much of the distance does a critic see? Over depth, over dimension, and on a map."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import nn

from nnlib.groupsort import relu_ceiling
from tenpapers.page.look import COLORS, describe, style
from tenpapers.page.text import number

SIDE = 49


def ceilings(frame: pd.DataFrame) -> go.Figure:
    """Estimates for |x| by the number of hidden layers.

    Args:
        frame: columns ``activation, hidden, estimate``, from ``absolute_value_run``.
    """
    best = frame.groupby(["activation", "hidden"]).estimate.max().reset_index()
    relu = best[best.activation == "ReLU"]
    figure = go.Figure()
    depths = list(range(1, int(relu.hidden.max()) + 1))
    figure.add_scatter(
        x=depths,
        y=[relu_ceiling(h) for h in depths],
        name="observed ceiling",
        mode="lines",
        line={"color": COLORS["neutral"], "dash": "1px,3px", "width": 2},
    )
    figure.add_scatter(x=relu.hidden, y=relu.estimate.round(4), **style("ReLU") | {"mode": "markers"})
    for name, aside in (("MaxMin", -0.08), ("Abs", 0.0), ("FullSort", 0.08)):  # all three are at 1
        part = best[best.activation == name]
        figure.add_scatter(x=part.hidden + aside, y=part.estimate.round(4), **style(name) | {"mode": "markers"})
    figure.update_traces(marker_size=10, selector={"mode": "markers"})
    figure.update_xaxes(title_text="hidden layers", dtick=1)
    figure.update_yaxes(title_text="share of the distance", range=[0, 1.06])
    return describe(
        figure,
        "groupsort-ceilings",
        alt=(
            "Estimates of a distance of 1 by critics of one variable. MaxMin, Abs and FullSort with one hidden layer "
            f"are at 1. ReLU is at {', '.join(number(v) for v in relu.estimate)} for {len(relu)} depths from 1 on, "
            "along a dotted curve that rises slowly."
        ),
    )


def dimensions(frame: pd.DataFrame) -> go.Figure:
    """Estimates for one cone by dimension.

    Args:
        frame: columns ``dim, activation, estimate``, from ``cone_run``.
    """
    mean = frame.groupby(["activation", "dim"]).estimate.mean()
    figure = go.Figure()
    for name in ("FullSort", "GroupSort4", "MaxMin", "ReLU"):
        part = mean[name]
        figure.add_scatter(x=part.index, y=part.round(4), **style(name) | {"mode": "lines+markers"})
    figure.add_hline(y=1, line={"color": COLORS["neutral"], "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="dimension", type="log", tickvals=sorted(frame.dim.unique()))
    figure.update_yaxes(title_text="share of the distance", range=[0, 1.06])
    last = int(frame.dim.max())
    told = ", ".join(
        f"{name} {number(float(mean[name][last]))}" for name in ("FullSort", "GroupSort4", "MaxMin", "ReLU")
    )
    return describe(
        figure,
        "groupsort-dimensions",
        alt=(
            "Estimates of a distance of 1 over the dimension, four curves. Larger groups stay higher as the dimension "
            f"grows; in dimension {last}: {told}."
        ),
    )


def potentials(critics: dict[str, nn.Module], centres: tuple[float, ...]) -> go.Figure:
    """Contour maps of trained critics in the plane, beside the best one.

    Args:
        critics: By the name of their activation.
        centres: Of the cones, on the first axis.
    """
    x, y = np.linspace(-4, 4, 2 * SIDE - 1), np.linspace(-2, 2, SIDE)
    points = torch.cartesian_prod(torch.from_numpy(y), torch.from_numpy(x)).flip(1)  # (y, x) -> (x, y)
    middle = torch.tensor([[c, 0.0] for c in centres], dtype=torch.float64)
    maps = {"best possible": -torch.cdist(points, middle).amin(1)}
    with torch.no_grad():
        for name, critic in critics.items():
            dtype = next(critic.parameters()).dtype
            top = critic(middle.to(dtype)).max()
            maps[name] = (critic(points.to(dtype))[:, 0] - top).double()
    hills = {name: _hills(values.view(len(y), len(x))[len(y) // 2]) for name, values in maps.items()}
    figure = make_subplots(len(maps), 1, subplot_titles=list(maps), vertical_spacing=0.08, shared_xaxes=True)
    for row, values in enumerate(maps.values(), 1):
        figure.add_contour(
            x=x.round(3),
            y=y.round(3),
            z=values.view(len(y), len(x)).numpy().round(3),
            contours={"start": -2.5, "end": 0, "size": 0.25},
            coloraxis="coloraxis",
            line={"width": 0.5},
            row=row,
            col=1,
        )
    figure.update_layout(coloraxis={"cmin": -2.5, "cmax": 0, "colorbar": {"title": "f"}}, height=220 * len(maps))
    figure.update_yaxes(title_text="x₂")
    figure.update_xaxes(title_text="x₁", row=len(maps))
    return describe(
        figure,
        "groupsort-potentials",
        alt=(
            "Contour maps of critics in the plane, below one another. The best possible one has a cone with circular "
            "contours over each centre. Hills along the line of the centres: "
            + ", ".join(f"{name} {count}" for name, count in hills.items())
            + ". A steeper critic has narrower contours."
        ),
    )


def _hills(ridge: torch.Tensor) -> int:
    """How many local maxima a curve has, between its ends."""
    return int(((ridge[1:-1] > ridge[:-2]) & (ridge[1:-1] >= ridge[2:])).sum())
