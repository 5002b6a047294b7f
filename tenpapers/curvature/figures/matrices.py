"""What do the Fisher matrix and its stand-ins look like, entry by entry?"""

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn

from nnlib.curvature import dense_fisher, layer_index
from tenpapers.curvature.measure import approximations, relative_error
from tenpapers.curvature.workloads import LAYERS
from tenpapers.page.look import describe, stack

SIGNED = [[0, "#B84819"], [0.5, "#F4F4F4"], [1, "#2E7EDF"]]  # negative, zero, positive
TICKS = np.array([-1, -0.25, -0.04, 0, 0.04, 0.25, 1])


def signed_root(matrix: Tensor, largest: float) -> np.ndarray:
    """sign(m) sqrt(|m| / largest): small entries stay visible beside large ones."""
    m = matrix.detach().cpu().numpy() / largest
    return np.sign(m) * np.sqrt(np.abs(m))


def colour_axis() -> dict:
    """For ``layout.coloraxis`` of heat maps of :func:`signed_root`."""
    bar = {"title": "entry", "tickvals": np.sign(TICKS) * np.sqrt(np.abs(TICKS)), "ticktext": [f"{t:g}" for t in TICKS]}
    return {"colorscale": SIGNED, "cmin": -1, "cmax": 1, "colorbar": bar | {"outlinewidth": 0, "thickness": 12}}


def whole_matrices(model: nn.Module, x: Tensor) -> go.Figure:
    """The Fisher matrix of all parameters beside K-FAC's, which is zero between layers.

    Args:
        model: With layers as ``tenpapers.curvature.workloads.network`` has them.
        x: Its inputs.
    """
    index = torch.cat([layer_index(model, name) for name in LAYERS])
    exact = dense_fisher(model, x)[index][:, index]
    kfac = torch.block_diag(*(found["K-FAC"] for found in approximations(model, x).values()))
    figure = maps({"Fisher matrix": exact, "K-FAC": kfac}, float(exact.abs().max()))
    return describe(
        figure,
        "curvature-whole",
        alt=(
            "Two square heat maps of 130 by 130 entries. Left the Fisher matrix: bright blocks of each layer on the "
            "diagonal, with a repeating tile pattern inside, and weaker but visible entries between layers. Right "
            "K-FAC: three blocks on the diagonal with a similar tile pattern, and zero elsewhere."
        ),
        narrow=stack(figure, 340),
    )


def layer_matrices(model: nn.Module, x: Tensor, layer: str = "layers.3") -> go.Figure:
    """One layer's block of the Fisher matrix and three approximations, with relative errors in their titles.

    Args:
        model: As in :func:`whole_matrices`.
        x: Its inputs.
        layer: A name among the model's layers.
    """
    found = approximations(model, x)[layer]
    exact = found["Fisher"]
    errors = {name: relative_error(matrix, exact) for name, matrix in found.items()}
    named = {name if name == "Fisher" else f"{name}: {errors[name]:.2f}": m for name, m in found.items()}
    figure = maps(named, float(max(matrix.abs().max() for matrix in found.values())))
    figure.update_layout(height=300)
    return describe(
        figure,
        "curvature-layer",
        alt=(
            f"Four heat maps of one layer's block, {len(exact)} by {len(exact)}: the Fisher matrix, K-FAC with the "
            "same tile in every place up to a factor, EKFAC with a similar pattern and other strengths, and the "
            f"diagonal. Relative errors: {', '.join(f'{n} {e:.2f}' for n, e in errors.items() if n != 'Fisher')}."
        ),
        narrow=stack(figure, 330),
    )


def maps(matrices: dict[str, Tensor], largest: float) -> go.Figure:
    """Heat maps of :func:`signed_root` side by side, by title, on one scale."""
    figure = make_subplots(1, len(matrices), subplot_titles=list(matrices), horizontal_spacing=0.03)
    for column, matrix in enumerate(matrices.values(), 1):
        z = signed_root(matrix, largest)
        figure.add_heatmap(z=z, coloraxis="coloraxis", hoverinfo="skip", row=1, col=column)
        figure.update_yaxes(autorange="reversed", scaleanchor=f"x{column}", constrain="domain", row=1, col=column)
    figure.update_xaxes(showticklabels=False, ticks="", constrain="domain", showgrid=False)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False)
    return figure.update_layout(coloraxis=colour_axis(), height=400)
