"""Can this network make a V? The best 1-Lipschitz fit of |x|, by activation and depth."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from torch import nn

from tenpapers.groupsort.workloads import absolute_value_critic
from tenpapers.page.look import COLORS, describe, style
from tenpapers.page.text import number


@lru_cache
def critic(activation: str, hidden: int) -> nn.Module:
    """A trained critic of the figure."""
    steps = 60 + 60 * hidden if activation == "ReLU" else 80
    return absolute_value_critic(activation, hidden, width=10, steps=steps, lr=0.03, dtype=torch.float64)


def v_shape(activation: str = "ReLU", hidden: int = 1) -> go.Figure:
    """The trained network beside |x|, and its slope.

    Args:
        activation: ``ReLU``, ``MaxMin`` or ``Abs``.
        hidden: Number of hidden layers.
    """
    network = critic(activation, hidden)
    x = np.linspace(-2, 2, 161)
    with torch.no_grad():
        f = -network(torch.from_numpy(x)[:, None])[:, 0].numpy()  # the critic rises towards P, |x| away from it
        at = -network(torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64))[:, 0].numpy()
    estimate = float((at[0] + at[2]) / 2 - at[1])
    f = f - at[1]
    slope = np.diff(f) / np.diff(x)
    steepest = float(np.abs(slope).max())
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=np.abs(x), name="|x|", mode="lines", line={"color": COLORS["neutral"], "dash": "2px,3px", "width": 2}
    )
    figure.add_scatter(x=x, y=f.round(4), **style(activation) | {"mode": "lines"})
    figure.add_scatter(
        x=[-1, 0, 1],
        y=at - at[1],
        name="the three points",
        mode="markers",
        marker={"color": COLORS["neutral"], "size": 9, "symbol": "circle-open", "line": {"width": 2}},
    )
    figure.update_xaxes(title_text="x")
    figure.update_yaxes(title_text="f(x) − f(0)", range=[-0.6, 2.1])
    layers = f"{hidden} hidden layer{'s' if hidden > 1 else ''}"
    return describe(
        figure,
        "groupsort-v-shape",
        alt=(
            f"The function |x|, a V with slopes −1 and 1, and the best fit of a norm-constrained {activation} network "
            f"with {layers} of 10 units. It "
            + ("follows the V." if estimate > 0.99 else "is a shallower V: it does not reach slope 1 on both sides.")
        ),
        summary=(
            f"{activation}, {layers}: {number(estimate, 4)} of 1 reached; steepest slope {number(steepest)}, "
            "1 is allowed."
        ),
    )
