"""The Lipschitz ledger: what each layer may gain, what it does gain, and how steep the network is at each point."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import nn

from nnlib.groupsort import LipschitzMLP, SpectralLinear
from nnlib.lipschitz import LipschitzReport, activation, jacobians, lipschitz_report
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number

SIDE = 25
WIDTH = 16


def network(activation_name: str, weights: str, depth: int) -> nn.Sequential:
    """A random network from the plane to a number, with ``depth`` linear layers of 16 units and small biases."""
    sizes = [2, *[WIDTH] * (depth - 1), 1]
    generator = torch.Generator("cpu").manual_seed(depth)
    if weights == "none":
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layer = nn.Linear(n_in, n_out, dtype=torch.float64)
            layers += [layer, activation(activation_name)]
            with torch.no_grad():  # Gaussian weights of the size that keeps the signal through ReLU
                layer.weight.normal_(std=(2 / n_in) ** 0.5, generator=generator)
        model = nn.Sequential(*layers[:-1])
    else:
        model = LipschitzMLP(sizes, activation_name, weights, dtype=torch.float64)
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, SpectralLinear):
                    layer.raw.normal_(generator=generator)
                    layer.raw.div_(torch.linalg.matrix_norm(layer.raw, 2))
                    layer.settle_()
    with torch.no_grad():
        for layer in model:
            if isinstance(bias := getattr(layer, "bias", None), torch.Tensor):
                bias.uniform_(-0.5, 0.5, generator=generator)
    return model.eval()


@lru_cache
def account(activation_name: str, weights: str, depth: int) -> tuple[LipschitzReport, np.ndarray]:
    """The report, and the norm of the gradient on a grid of the square [-2, 2]²."""
    model = network(activation_name, weights, depth)
    axis = torch.linspace(-2, 2, SIDE, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)  # (SIDE², 2): the first coordinate slowest
    gradient = jacobians(model, grid).norm(dim=(1, 2)).view(SIDE, SIDE).T  # (y, x)
    return lipschitz_report(model, grid, points=48, steps=30), gradient.numpy()


def ledger(activation_name: str = "ReLU", weights: str = "none", depth: int = 4) -> go.Figure:
    """Each layer's bound beside what it attains on the steepest path found, and a map of the slope.

    Args:
        activation_name: ``ReLU`` or ``MaxMin``.
        weights: ``none``, ``spectral norm`` or ``Björck``.
        depth: Number of linear layers.
    """
    report, slope = account(activation_name, weights, depth)
    frame = pd.DataFrame(report.rows)
    frame = frame[frame.kind != "Flatten"]
    names = [f"{i // 2 + 1}" if i % 2 == 0 else f"{i // 2 + 1}σ" for i in range(len(frame))]
    figure = make_subplots(1, 2, subplot_titles=["gain of each layer", "slope over the plane"], horizontal_spacing=0.14)
    figure.add_bar(
        x=names,
        y=frame.bound.round(4),
        name="bound",
        marker={"color": "rgba(128,128,128,0.35)", "line": {"color": COLORS["neutral"], "width": 1}},
        row=1,
        col=1,
    )
    figure.add_bar(
        x=names,
        y=frame.attained.round(4),
        name="attained",
        marker={"color": COLORS[activation_name]},
        width=0.45,
        row=1,
        col=1,
    )
    axis = np.linspace(-2, 2, SIDE)
    figure.add_heatmap(
        x=axis,
        y=axis,
        z=(slope / report.upper).round(3),
        zmin=0,
        zmax=1,
        colorbar={"title": "of the<br>bound", "len": 0.9},
        row=1,
        col=2,
    )
    figure.update_xaxes(title_text="layer (σ: the activation after it)", type="category", row=1, col=1)
    figure.update_yaxes(title_text="gain", rangemode="tozero", row=1, col=1)
    figure.update_xaxes(title_text="x₁", row=1, col=2)
    figure.update_yaxes(title_text="x₂", row=1, col=2)
    figure.update_layout(barmode="overlay", height=400)
    share = report.lower / report.upper
    return describe(
        figure,
        "groupsort-ledger",
        alt=(
            f"Left: for each of {depth} linear layers and the activations between them a grey bar, the proven bound on "
            "its gain, and inside it a coloured bar, the gain on the steepest path that was found. Right: a map of the "
            f"plane, coloured by the slope of the network as a share of the bound; {number(100 * share)} % at most."
        ),
        summary=(
            f"{activation_name}, weights {'unconstrained' if weights == 'none' else 'by ' + weights}, {depth} layers: "
            f"product of the bounds {number(report.upper)}, steepest slope found {number(report.lower)}, "
            f"{number(100 * share)} % of it."
        ),
        narrow=stack(figure, 330),
    )
