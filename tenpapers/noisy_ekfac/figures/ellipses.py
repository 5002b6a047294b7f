"""Four posteriors of a linear regression with two weights: which ellipse lies on the exact one?"""

import math

import numpy as np
import plotly.graph_objects as go
import torch

from nnlib.bayes import LinearGaussian, gaussian_kl
from nnlib.noisy_ekfac import Diagonal, EigenvalueCorrected, MatrixVariate, Rows
from tenpapers.page.look import COLORS, describe, style
from tenpapers.page.text import number

CIRCLE = np.linspace(0, 2 * np.pi, 49)
KINDS = {"Noisy Adam": (Diagonal, "Adam"), "Noisy K-FAC": (MatrixVariate, "K-FAC")}
KINDS |= {"Noisy EK-FAC": (EigenvalueCorrected, "Natural gradient")}


def covariances(correlation: float, n: int, noise: float, prior_variance: float) -> dict[str, torch.Tensor]:
    """The covariance of each posterior at the Fisher matrix itself, and the exact one, each (2, 2)."""
    # n inputs whose second moment is [[1, c], [c, 1]] exactly.
    c = correlation
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64, device="cpu")
    L = torch.tensor([[1.0, 0.0], [c, math.sqrt(1 - c**2)]], dtype=torch.float64, device="cpu")
    x = (z @ L.T).repeat(n // 4, 1)
    exact = LinearGaussian(x, torch.zeros_like(x[:, 0]), noise, prior_variance).covariance
    found = {"Exact": exact}
    for name, (kind, _) in KINDS.items():
        q = kind(torch.zeros(1, 2, dtype=x.dtype, device="cpu"), n, prior_variance, decay=0.0)
        q.observe(Rows(x, torch.full_like(x[:, :1], noise**-0.5)))
        found[name] = q.covariance()
    return found


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
            look = style(KINDS[name][1]) | {"name": name, "legendgroup": name}
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


def gap(covariance: torch.Tensor, exact: torch.Tensor) -> float:
    """KL[N(0, covariance) || N(0, exact)], in nats; below 0 is rounding."""
    zero = torch.zeros_like(exact[0])
    return max(0.0, float(gaussian_kl(zero, covariance, zero, exact)))
