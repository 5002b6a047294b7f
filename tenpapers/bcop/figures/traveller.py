"""What is left of a gradient after many convolutions?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go

from tenpapers.bcop.measure import gradient_norms
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number

METHODS = ("BCOP", "RKO", "OSSN", "SVCM")
DEPTH = 30


@lru_cache(maxsize=128)
def norms(method: str, activation: str, kernel_size: int) -> np.ndarray:
    """(vectors, layers passed + 1)."""
    stack = {"depth": DEPTH, "channels": 6, "size": 6, "kernel_size": kernel_size, "activation": activation}
    return gradient_norms(method, vectors=16, **stack).numpy()


def gradient_traveller(method: str = "RKO", activation: str = "MaxMin", kernel_size: int = 3) -> go.Figure:
    """Norms of 16 gradients on their way back through 30 layers at the start of training.

    Args:
        method: ``BCOP``, ``RKO``, ``OSSN`` or ``SVCM``, drawn strongly; the others faintly.
        activation: ``MaxMin`` or ``ReLU``, after every convolution.
        kernel_size: k of every convolution.
    """
    figure = go.Figure()
    layers = np.arange(DEPTH + 1)
    mine = norms(method, activation, kernel_size)
    low, high = np.maximum(mine.min(0), 1e-30), np.maximum(mine.max(0), 1e-30)
    color = COLORS[method]
    fill = f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:], 16)},0.25)"
    edge = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=layers, y=high, name="largest of 16", **edge)
    figure.add_scatter(x=layers, y=low, name="smallest of 16", fill="tonexty", fillcolor=fill, **edge)
    for name in METHODS:
        median = np.median(norms(name, activation, kernel_size), axis=0)
        look = style(name) | {"mode": "lines", "opacity": 1.0 if name == method else 0.6}
        look["line"] = look["line"] | {"width": 3.5 if name == method else 1.5}
        figure.add_scatter(x=layers, y=np.maximum(median, 1e-30), **look)
    figure.update_xaxes(title_text="layers passed on the way back", range=[0, DEPTH])
    figure.update_yaxes(**LOG, title_text="norm of the gradient", range=[-24, 1])
    figure.update_yaxes(dtick=4, minor=None)
    left = float(np.median(mine[:, -1]))
    return describe(
        figure,
        "bcop-gradient-traveller",
        alt=(
            "The norm of a gradient, on a logarithmic axis, over the number of layers it has passed on its way "
            "back. With MaxMin, BCOP is a level line at 1; OSSN and SVCM fall along straight lines, RKO along the "
            "steepest. With ReLU all fall, BCOP least. With kernels of size 1 all four methods are "
            "the same: with MaxMin the norm is kept."
        ),
        summary=(
            f"{method} with {activation}, {kernel_size} × {kernel_size}: after {DEPTH} layers {number(left)} of the "
            f"gradient is left, a factor {number(left ** (1 / DEPTH))} a layer."
        ),
    )
