"""What does the inverse of the Fisher matrix look like between layers, and what do two approximations keep of it?"""

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from nnlib.curvature import dense_fisher, layer_index
from tenpapers.curvature.figures.matrices import maps
from tenpapers.curvature.steps import inverses
from tenpapers.curvature.workloads import LAYERS
from tenpapers.page.look import describe, stack


def whole_inverses(model: nn.Module, x: Tensor, damping: float = 0.03) -> go.Figure:
    """The inverse of the damped Fisher matrix beside the block-tridiagonal and the block-diagonal one of K-FAC.

    Args:
        model: With layers as ``tenpapers.curvature.workloads.network`` has them.
        x: Its inputs.
        damping: Of all three.
    """
    index = torch.cat([layer_index(model, name) for name in LAYERS])
    F = dense_fisher(model, x)[index][:, index]
    found = inverses(model, x, damping)
    named = {
        "inverse Fisher matrix": torch.linalg.inv(F + damping * torch.eye(len(F), dtype=F.dtype)),
        "block-tridiagonal": found["block-tridiagonal"],
        "block-diagonal": found["block-diagonal"],
    }
    figure = maps(named, float(max(matrix.abs().max() for matrix in named.values())))
    figure.update_layout(height=330)
    return describe(
        figure,
        "curvature-inverses",
        alt=(
            f"Three square heat maps of {len(F)} by {len(F)} entries, of inverses. Left that of the damped Fisher "
            "matrix: a strong diagonal, and weak entries everywhere, also between layers. Middle the block-tridiagonal "
            "one: regular tiles within layers, weaker ones between neighbours, zero between the first and the last "
            "layer. Right K-FAC: three blocks on the diagonal and zero elsewhere."
        ),
        narrow=stack(figure, 340),
    )
