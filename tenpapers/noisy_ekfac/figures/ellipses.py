"""Four posteriors of a linear regression with two weights: which ellipse lies on the exact one?"""

import numpy as np
import plotly.graph_objects as go
import torch

from tenpapers.noisy_ekfac.measure import covariances, gap
from tenpapers.page.look import COLORS, describe, style
from tenpapers.page.text import number

CIRCLE = np.linspace(0, 2 * np.pi, 49)
LOOKS = {"Noisy Adam": "Adam", "Noisy K-FAC": "K-FAC", "Noisy EK-FAC": "Natural gradient"}


def ellipses(correlation: float = 0.9, n: int = 20, prior_variance: float = 1.0) -> go.Figure:
    """Ellipses that hold 86 % of each posterior, noise variance 1.

    Args:
        correlation: Of the two inputs, in (-1, 1).
        n: Training examples, a multiple of 4.
        prior_variance: Of each weight.
    """
    found = covariances(correlation, n, 1.0, prior_variance)
    figure, told = go.Figure(), []
    for name, covariance in found.items():
        values, Q = torch.linalg.eigh(covariance)
        root = (Q * values.sqrt()) @ Q.T  # the symmetric root does not depend on signs
        x, y = 2 * root.numpy() @ np.stack([np.cos(CIRCLE), np.sin(CIRCLE)])
        if name == "Exact":
            look = {"name": name, "line": {"color": COLORS["neutral"], "width": 8}, "opacity": 0.45}
        else:
            look = style(LOOKS[name]) | {"name": name, "legendgroup": name}
            kl = gap(covariance, found["Exact"])
            told.append(f"{name} {number(0.0 if kl < 1e-9 else kl)}")
        figure.add_scatter(x=x.round(4), y=y.round(4), mode="lines", **look)
    reach = 2.1 * float(found["Exact"].diagonal().max().sqrt())
    figure.update_xaxes(title="first weight", range=[-reach, reach])
    figure.update_yaxes(title="second weight", range=[-reach, reach], scaleanchor="x", scaleratio=1)
    return describe(
        figure,
        "noisy-ekfac-ellipses",
        alt=(
            "Ellipses of the posterior of two weights around their mean. The ellipse of noisy EK-FAC lies on the thick "
            "exact one. With correlated inputs the exact ellipse is long and tilted; noisy Adam's stays upright and is "
            "much too small along the long axis, noisy K-FAC's is tilted but shorter than the exact one."
        ),
        summary=f"KL divergence to the exact posterior, in nats: {', '.join(told)}.",
    )
