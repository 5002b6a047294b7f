"""Hidden cooling: factored damping makes every variance smaller than exact damping of the same eigenvalues does."""

import numpy as np
import plotly.graph_objects as go
import torch

from nnlib.noisy_ekfac import MatrixVariate
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number


def variances(spread: float, n_data: int, damping_kind: str) -> torch.Tensor:
    """Variances of a layer of 8 x 6 weights whose factors have eigenvalues from 1 down to 10^-spread, (48,)."""
    q = MatrixVariate(torch.zeros(8, 6, dtype=torch.float64, device="cpu"), n_data, damping_kind=damping_kind)
    q.a, q.s = (torch.logspace(0, -spread, k, dtype=torch.float64, device="cpu") for k in (6, 8))
    return q.variance()[1].flatten()


def cooling(spread: float = 2.0, n_data: int = 1000) -> go.Figure:
    """Variance of each eigendirection under both dampings, over the eigenvalue, and the prior's variance.

    Args:
        spread: Decades that the eigenvalues of each factor span, not negative.
        n_data: Number of training examples; the prior variance and the KL weight are 1.
    """
    exact, factored = variances(spread, n_data, "exact"), variances(spread, n_data, "factored")
    order = exact.argsort(descending=True).numpy()
    values = (1 / (n_data * exact) - 1 / n_data).numpy()[order]
    figure = go.Figure()
    for name, look, found in (
        ("exact damping", "Natural gradient", exact),
        ("factored damping", "K-FAC", factored),
    ):
        drawn = style(look) | {"name": name, "mode": "markers"}
        figure.add_scatter(x=values, y=found.numpy()[order], **drawn)
    grey = {"color": COLORS["neutral"], "dash": "dot", "width": 1.5}
    figure.add_scatter(x=[1e-7, 2], y=[1, 1], mode="lines", line=grey, name="prior variance")
    figure.update_xaxes(**LOG, title="eigenvalue of the Fisher matrix", range=[-6.5, 0.3])
    figure.update_yaxes(**LOG, title="posterior variance", range=[-5.2, 0.4])
    share = float(factored.sum() / exact.sum())
    lowest = float(np.min((factored / exact).numpy()))
    return describe(
        figure,
        "noisy-ekfac-cooling",
        alt=(
            "Posterior variance over the eigenvalue of the Fisher matrix, logarithmic axes. Under exact damping the "
            "variances rise to the prior's as the eigenvalue falls. Under factored damping every point lies lower, "
            "most of all where one factor is large and the other small."
        ),
        summary=(
            f"Factored damping keeps {number(100 * share, 2)} % of the total variance; the most affected direction "
            f"keeps {number(100 * lowest, 2)} %."
        ),
    )
