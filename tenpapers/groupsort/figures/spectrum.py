"""Which singular values does the Jacobian of a random network have? Dynamical isometry, or not."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go

from tenpapers.groupsort.measure import jacobian_spectrum
from tenpapers.page.look import LOG, describe, style
from tenpapers.page.text import number

ACTIVATIONS = ("MaxMin", "Abs", "tanh", "ReLU")
FLOOR = 1e-6


@lru_cache
def values(activation: str, depth: int, weights: str) -> np.ndarray:
    """Singular values, descending."""
    return jacobian_spectrum(activation, depth, 64, weights).numpy()


def spectrum(depth: int = 5, weights: str = "orthogonal") -> go.Figure:
    """All 64 singular values for four activations.

    Args:
        depth: Number of square matrices.
        weights: ``orthogonal`` or ``spectral norm``.
    """
    figure = go.Figure()
    index = np.arange(1, 65)
    means = {}
    for name in ACTIVATIONS:
        found = values(name, depth, weights)
        means[name] = float(found.mean())
        figure.add_scatter(x=index, y=np.maximum(found, FLOOR).round(7), **style(name) | {"mode": "lines"})
    figure.update_xaxes(title_text="rank of the singular value")
    figure.update_yaxes(**LOG, title_text="singular value", range=[-6.1, 0.3])
    kept = ", ".join(f"{name} {number(mean)}" for name, mean in means.items())
    return describe(
        figure,
        "groupsort-spectrum",
        alt=(
            f"Singular values of the Jacobian of a random network of {depth} layers of 64 units with {weights} "
            "weights, on a logarithmic scale, cut off at one millionth. "
            + (
                "MaxMin and Abs lie at 1 everywhere; tanh falls below; ReLU falls furthest, half of its values to zero."
                if weights == "orthogonal"
                else "All four fall steeply with the index, ReLU furthest."
            )
        ),
        summary=f"{depth} layers, {weights}: mean singular value {kept}.",
    )
