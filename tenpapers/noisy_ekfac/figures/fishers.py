"""A layer's Fisher matrix and three ways to write it: where does each put what, and how far off is it?"""

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from nnlib.noisy_ekfac import Diagonal, EigenvalueCorrected, MatrixVariate, Rows
from tenpapers.page.look import describe, stack
from tenpapers.page.text import number

WRITTEN = {
    "noisy Adam": (Diagonal, {}),
    "noisy K-FAC": (MatrixVariate, {"damping_kind": "exact"}),
    "noisy EK-FAC": (EigenvalueCorrected, {}),
}


def matrices(dependence: float, correlation: float, n: int = 2000) -> dict[str, Tensor]:
    """The Fisher matrix of a layer of 3 x 4 weights and what each method keeps of it, (12, 12) each.

    Args:
        dependence: How much the size of a gradient follows that of the first input, from 0 (not at all) to 1.
        correlation: Of every two inputs, in [0, 1).
        n: Examples.
    """
    g = torch.Generator("cpu").manual_seed(0)
    draw = {"generator": g, "dtype": torch.float64, "device": "cpu"}
    x = (1 - correlation) ** 0.5 * torch.randn(n, 4, **draw) + correlation**0.5 * torch.randn(n, 1, **draw)
    ds = torch.randn(n, 3, **draw) * (1 - dependence + dependence * x[:, :1].abs())
    G = torch.einsum("bo,bi->boi", ds, x).flatten(1)
    found = {"Fisher matrix": G.T @ G / n}
    for name, (kind, options) in WRITTEN.items():
        q = kind(torch.zeros(3, 4, dtype=x.dtype, device="cpu"), n, decay=0.0, **options)
        q.observe(Rows(x, ds))
        basis, values = q.damped(0.0)
        Q = torch.eye(12, dtype=x.dtype, device="cpu") if basis is None else torch.kron(basis.Q_S, basis.Q_A)
        found[name] = Q * values.flatten() @ Q.T
    return found


def fishers(dependence: float = 1.0, correlation: float = 0.5) -> go.Figure:
    """Four heat maps side by side on one scale.

    Args:
        dependence: As in :func:`matrices`.
        correlation: As in :func:`matrices`.
    """
    found = matrices(dependence, correlation)
    F = found["Fisher matrix"]
    figure = make_subplots(1, 4, subplot_titles=list(found), horizontal_spacing=0.03)
    for column, matrix in enumerate(found.values(), start=1):
        figure.add_heatmap(z=matrix.numpy().round(3), coloraxis="coloraxis", row=1, col=column)
    most = float(F.max())
    figure.update_layout(height=300, coloraxis={"cmin": -most / 4, "cmax": most, "colorbar": {"thickness": 12}})
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_yaxes(showticklabels=False, ticks="", autorange="reversed")
    errors = {name: float((matrix - F).norm() / F.norm()) for name, matrix in found.items() if name != "Fisher matrix"}
    return describe(
        figure,
        "noisy-ekfac-fishers",
        alt=(
            "Four heat maps of 12 x 12 matrices: the Fisher matrix of a layer with three outputs and four inputs, its "
            "diagonal, K-FAC's Kronecker product, and the matrix with corrected eigenvalues. The first has three "
            "blocks on its diagonal; the product has the same blocks but other heights where gradients and inputs "
            "depend on each other."
        ),
        summary=f"Relative error: {', '.join(f'{name} {number(error, 2)}' for name, error in errors.items())}.",
        narrow=stack(figure, 240),
    )
