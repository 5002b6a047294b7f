"""On which island is an orthogonal convolution, and what happens on the straight way to another?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.bcop import component, island_kernel, response, smallest_gain
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number

N, K = 2, 3  # channels, taps: 2 (K - 1) N + 2 = 10 islands
PATH = np.linspace(0, 1, 41)
SIGNS = {"+": 1, "−": -1}
THERE = (2, "+")


@lru_cache(maxsize=64)
def way(first: int, second: int, sign: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """The chosen kernel, the one to go to, and the smallest gain along the straight line between them."""
    here = island_kernel(N, [first, second], SIGNS[sign], seed=3)
    there = island_kernel(N, [1, 1], 1, seed=11)
    lows = [smallest_gain((1 - t) * here + t * there) for t in PATH]
    return here, there, np.array(lows)


def islands(first: int = 0, second: int = 1, sign: str = "−", t: float = 0.0) -> go.Figure:
    """One-dimensional orthogonal convolutions of two channels and three taps: the determinant, a path, the map.

    Args:
        first: Rank of the projector P₁, 0 to 2.
        second: Rank of P₂.
        sign: Of det H, "+" or "−".
        t: Place on the straight line to a kernel of ranks (1, 1) and sign +.
    """
    here, there, lows = way(first, second, sign)
    moved = (1 - t) * here + t * there
    angles = 2 * torch.pi * torch.linspace(0, 1, 73, dtype=torch.float64, device="cpu")
    values = torch.linalg.det(response(moved, angles)).numpy()
    place = component(here)
    figure = make_subplots(
        rows=1, cols=3, horizontal_spacing=0.1, column_widths=[0.34, 0.36, 0.3],
        subplot_titles=("determinant over all frequencies", "smallest gain on the way", "the ten islands"),
    )  # fmt: skip
    blue, orange, grey = COLORS["BCOP"], COLORS["RKO"], COLORS["neutral"]
    # Radius grows a little on the way, so that a curve that goes round three times shows three rounds.
    spiral = values * (1 + 0.3 * np.linspace(0, 1, len(values)))
    curve = {"mode": "lines", "line": {"color": blue, "width": 2}, "name": "det Ŵ(θ)"}
    figure.add_scatter(x=spiral.real, y=spiral.imag, **curve, row=1, col=1)
    ends = {"size": [9, 9], "color": [blue, orange], "symbol": ["circle", "square"]}
    figure.add_scatter(
        x=spiral.real[[0, -1]], y=spiral.imag[[0, -1]], mode="markers", marker=ends, name="θ = 0 and 2π", row=1, col=1
    )
    cross = {"symbol": "cross-thin-open", "size": 12, "color": grey}
    figure.add_scatter(x=[0], y=[0], mode="markers", marker=cross, name="zero", row=1, col=1)
    figure.add_scatter(x=PATH, y=lows, mode="lines", line={"color": blue}, name="smallest gain", row=1, col=2)
    low = float(smallest_gain(moved))
    dot = {"size": 11, "color": orange, "symbol": "square"}
    figure.add_scatter(x=[t], y=[low], mode="markers", marker=dot, name="you are here", row=1, col=2)
    windings, rows = np.meshgrid(range((K - 1) * N + 1), [1, -1])
    square = {"symbol": "square-open", "size": 20, "color": grey}
    figure.add_scatter(
        x=windings.ravel(), y=rows.ravel(), mode="markers", marker=square, name="island", row=1, col=3
    )  # fmt: skip
    target = {"symbol": "star", "size": 11, "color": grey}
    figure.add_scatter(x=[THERE[0]], y=[SIGNS[THERE[1]]], mode="markers", marker=target, name="goal", row=1, col=3)
    mine = {"symbol": "circle", "size": 11, "color": blue}
    figure.add_scatter(x=[place.columns], y=[place.sign], mode="markers", marker=mine, name="start", row=1, col=3)
    figure.update_xaxes(title_text="real part", range=[-1.6, 1.6], row=1, col=1)
    figure.update_yaxes(title_text="imaginary part", range=[-1.6, 1.6], row=1, col=1)
    figure.update_xaxes(title_text="t", range=[-0.04, 1.04], row=1, col=2)
    figure.update_yaxes(title_text="smallest singular value", range=[-0.04, 1.1], row=1, col=2)
    figure.update_xaxes(title_text="winding number", range=[-0.6, 4.6], dtick=1, row=1, col=3)
    figure.update_yaxes(tickvals=[-1, 1], ticktext=["−", "+"], title_text="sign", range=[-2, 2], row=1, col=3)
    figure.update_layout(showlegend=False, height=360)
    same = (place.columns, place.sign) == (THERE[0], SIGNS[THERE[1]])
    reached = (
        f"The goal is on the same island, and the straight way never falls below {number(float(lows.min()))}."
        if same
        else f"The goal is on another island: on the straight way a gain falls to {_small(float(lows.min()))}."
    )
    return describe(
        figure,
        "bcop-islands",
        alt=(
            "Left: the determinant of the frequency response as a curve round zero; its start is a dot, its end a "
            "square further out, and it goes round as often as the winding number says. Middle: the smallest "
            "singular value along the straight line to another orthogonal convolution; between islands it touches "
            "zero. Right: a map of ten islands, by winding number 0 to 4 and sign, with start and goal."
        ),
        summary=f"Winding number {place.columns}, sign {sign}. {reached} At t = {number(t, 2)} it is {_small(low)}.",
        narrow=stack(figure),
    )


def _small(gain: float) -> str:
    """Two digits; below a hundredth it is the grid's business how close to zero it comes."""
    return number(gain, 2) if gain > 0.01 else "less than 0.01"
