"""Which direction did we delete? A loss with two correlated weights, and four ways to remove one coordinate."""

import numpy as np
import plotly.graph_objects as go
import torch

from nnlib.eigendamage import obd_scores, obs_scores, obs_update
from tenpapers.page.look import COLORS, describe
from tenpapers.page.text import number

STEEP, FLAT = 4.0, 0.4  # curvatures along the valley's axes
LOOKS = {  # whose colour, dash, marker
    "OBD": ("Kron-OBD", "solid", "square"),
    "OBS": ("Kron-OBS", "6px,3px", "diamond"),
    "eigenbasis": ("EigenDamage", "2px,2px", "circle"),
}


def rotation(angle: float = 30.0, along: float = 1.0) -> go.Figure:
    """A quadratic loss around a trained point, and where OBD, OBS and the eigenbasis move it to delete one number.

    Args:
        angle: of the steep direction to the first weight's axis, in degrees.
        along: size of the second weight; the first is 1.
    """
    turn = np.deg2rad(angle)
    Q = torch.tensor([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    values = torch.tensor([STEEP, FLAT], dtype=torch.float64)
    H = Q * values @ Q.T
    theta = torch.tensor([1.0, along], dtype=torch.float64)
    changes = _changes(theta, H, Q, values)
    grid = np.linspace(-1.2, 2.4, 25)
    d = np.stack(np.meshgrid(grid - 1.0, grid - along), -1)  # (y, x, 2)
    loss = 0.5 * np.einsum("yxi,ij,yxj->yx", d, H.numpy(), d)
    levels = {"start": 0.0, "end": 3.0, "size": 0.3, "coloring": "lines"}
    figure = go.Figure(
        go.Contour(
            x=grid,
            y=grid,
            z=loss,
            contours=levels,
            colorscale=[[0, COLORS["neutral"]], [1, COLORS["neutral"]]],
            showscale=False,
            line={"width": 1},
            opacity=0.5,
            hoverinfo="skip",
        )
    )
    for name, (change, rise) in changes.items():
        end, (owner, dash, symbol) = (theta + change).tolist(), LOOKS[name]
        figure.add_scatter(
            x=[1.0, end[0]],
            y=[along, end[1]],
            mode="lines+markers",
            name=f"{name}: loss rises by {number(rise)}",
            line={"color": COLORS[owner], "width": 3, "dash": dash},
            marker={"color": COLORS[owner], "size": [0, 10], "symbol": symbol},
        )
    trained = {"color": COLORS["neutral"], "size": 11, "symbol": "x"}
    figure.add_scatter(x=[1.0], y=[along], mode="markers", name="trained", marker=trained)
    ranges = {"range": [-1.2, 2.4], "zeroline": True, "zerolinecolor": COLORS["neutral"]}
    figure.update_xaxes(**ranges, title_text="first weight", constrain="domain")
    figure.update_yaxes(**ranges, title_text="second weight", scaleanchor="x")
    figure.update_layout(height=520)
    lowest = min(rise for _, rise in changes.values())
    best = [name for name, (_, rise) in changes.items() if rise < lowest + 1e-9]
    told = ", ".join(f"{name} {number(rise)}" for name, (_, rise) in changes.items())
    return describe(
        figure,
        "eigendamage-rotation",
        alt=(
            "Contours of a quadratic loss over two weights, a narrow valley turned by the chosen angle, with the "
            "trained point at its bottom. Three moves leave it: OBD straight to an axis, OBS to an axis but along the "
            "valley, and the move in the eigenbasis, at a right angle to one of the valley's axes."
        ),
        summary=f"Rise of the loss: {told}. Cheapest: {', '.join(best)}.",
    )


def _changes(theta, H, Q, values) -> dict[str, tuple[torch.Tensor, float]]:
    """Each method's choice of one coordinate, its move, and the rise of the loss."""
    pick = lambda scores: torch.arange(2) == scores.argmin()  # noqa: E731
    rotated = Q.T @ theta
    found = {
        "OBD": -theta * pick(obd_scores(theta, H)),
        "OBS": obs_update(theta, H, pick(obs_scores(theta, H))),
        "eigenbasis": -Q @ (rotated * pick(obd_scores(rotated, torch.diag(values)))),
    }
    # What is zero but for rounding is shown as zero.
    return {name: (change, round(float(change @ H @ change / 2), 12)) for name, change in found.items()}
