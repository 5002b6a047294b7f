"""When inputs and gradients depend on each other, how much is lost by S (x) A, and how much does EKFAC bring back?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn

from nnlib.curvature import dense_fisher, factors, layer_index, rescale
from tenpapers.curvature.figures.matrices import SIGNED, signed_root
from tenpapers.curvature.figures.network import decrease_share, relative_error
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number

DAMPINGS = np.geomspace(1e-4, 10, 21)
STYLES = {
    "K-FAC": style("K-FAC"),
    "EKFAC": style("K-FAC-F") | {"name": "EKFAC", "legendgroup": "EKFAC"},
    "diagonal": style("Adam") | {"name": "diagonal", "legendgroup": "diagonal"},
    "gradient": style("GD") | {"name": "gradient", "legendgroup": "gradient"},
}


@lru_cache
def softmax_regression(confidence: float) -> tuple[nn.Module, Tensor]:
    """Three classes from two inputs by one linear layer, its weights multiplied by ``confidence``: model and x.

    With confidence 0 every class has probability 1/3 whatever the input. The larger it is, the smaller the gradients
    of examples far from the class borders: gradient and input depend on each other.
    """
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 3.0])
    x = torch.stack([z[:, 0] + z[:, 1], z[:, 1] - z[:, 0]], 1) / 2**0.5  # turned by 45 degrees
    model = nn.Linear(2, 3, dtype=torch.float64, device="cpu")
    with torch.no_grad():
        model.weight.copy_(confidence * torch.tensor([[1, 0.5], [-1, 0.2], [0, -0.7]]))
        model.bias.copy_(confidence * torch.tensor([0.3, -0.3, 0]))
    return nn.Sequential(model), x


@lru_cache
def curvatures(confidence: float) -> dict[str, Tensor]:
    """The Fisher matrix, K-FAC, EKFAC and diagonal of :func:`softmax_regression`, (9, 9) each."""
    model, x = softmax_regression(confidence)
    index = layer_index(model, "0")
    exact = dense_fisher(model, x)[index][:, index]
    block = factors(model, x)["0"]
    ekfac = rescale(model, x, {"0": block.eigen()})["0"]
    return {"Fisher": exact, "K-FAC": block.dense(), "EKFAC": ekfac.dense(), "diagonal": exact.diagonal().diag()}


@lru_cache
def correlation(confidence: float) -> float:
    """Over examples, between |x|^2 (with the 1 of the bias) and E|ds|^2; nan where the latter is constant."""
    model, x = softmax_regression(confidence)
    p = model(x).detach().softmax(1)
    pair = torch.stack([x.square().sum(1) + 1, 1 - p.square().sum(1)])
    return float("nan") if pair[1].std() < 1e-9 else float(torch.corrcoef(pair)[0, 1])


@lru_cache
def shares(confidence: float) -> dict[str, np.ndarray]:
    """:func:`decrease_share` of each direction (C + damping I)^-1 g, C the approximation, by damping.

    Averaged over 50 random g from N(0, F), as the gradients of small batches are.
    """
    found = curvatures(confidence)
    exact, eye = found["Fisher"], torch.eye(9, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(exact)
    normal = torch.randn(9, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # The symmetric root: unlike the eigenvectors, it is unique where eigenvalues coincide.
    g = vectors @ (values.clamp(min=0).sqrt()[:, None] * (vectors.T @ normal))  # (9, 50)
    result = {name: [] for name in STYLES}
    for damping in DAMPINGS:
        M = exact + damping * eye
        for name, got in result.items():
            u = g if name == "gradient" else torch.linalg.solve(found[name] + damping * eye, g)
            got.append(float(decrease_share(u, g, M).mean()))
    return {name: np.array(got) for name, got in result.items()}


def confidence(scale: float = 1.0, damping: float = 0.01) -> go.Figure:
    """Fisher matrix, K-FAC and EKFAC of a softmax regression, and how good their damped directions are.

    Args:
        scale: Of the weights, from 0 (the model knows nothing) up.
        damping: One of ``DAMPINGS``, up to rounding.
    """
    found = curvatures(scale)
    names = ["Fisher", "K-FAC", "EKFAC"]
    largest = float(found["Fisher"].abs().max())
    figure = make_subplots(1, 2, column_widths=[0.58, 0.42], subplot_titles=["matrices", "share of the best decrease"])
    colours = {"colorscale": SIGNED, "zmin": -1, "zmax": 1, "showscale": False, "hoverinfo": "skip"}
    for place, name in enumerate(names):
        figure.add_heatmap(z=signed_root(found[name], largest), x0=10 * place, **colours, row=1, col=1)
    place = int(np.abs(np.log(DAMPINGS / damping)).argmin())
    for name, got in shares(scale).items():
        figure.add_scatter(x=DAMPINGS, y=got, mode="lines", **STYLES[name], row=1, col=2)
    figure.add_vline(x=DAMPINGS[place], line={"color": COLORS["neutral"], "dash": "dot", "width": 1}, row=1, col=2)
    figure.update_xaxes(tickvals=[4, 14, 24], ticktext=names, ticks="", showgrid=False, showline=False, row=1, col=1)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, showline=False, autorange="reversed", col=1)
    figure.update_yaxes(scaleanchor="x", constrain="domain", row=1, col=1)
    figure.update_xaxes(**LOG, title="damping", row=1, col=2)
    figure.update_yaxes(range=[0.25, 1.03], row=1, col=2)
    figure.update_layout(height=360)
    errors = {name: relative_error(matrix, found["Fisher"]) for name, matrix in found.items() if name != "Fisher"}
    told = ", ".join(f"{name} {number(error if error > 1e-9 else 0.0, 2)}" for name, error in errors.items())
    here = shares(scale)
    related = correlation(scale)
    return describe(
        figure,
        "curvature-confidence",
        alt=(
            "Left: three small heat maps, the Fisher matrix of a softmax regression, its Kronecker approximation and "
            "EKFAC; with growing scale of the weights the first loses entries that the others keep. Right: over the "
            "damping, the share of the best possible decrease that each direction brings; EKFAC lies above K-FAC, the "
            "diagonal and the gradient, and with much damping all rise to one."
        ),
        summary=(
            f"Relative error: {told}. Correlation of |x|² and |ds|²: {number(related, 2)}. At this damping K-FAC "
            f"brings {here['K-FAC'][place]:.0%} of the best decrease, EKFAC {here['EKFAC'][place]:.0%}, the gradient "
            f"{here['gradient'][place]:.0%}."
        ),
        narrow=stack(figure),
    )
