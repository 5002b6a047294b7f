"""A network so small that all of its curvature can be drawn: 130 weights that tell four digits apart."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from nnlib.curvature import KFAC, dense_fisher, factors, layer_index, rescale
from nnlib.models import MLP
from tenpapers.data import load

LAYERS = {"layers.1": "first layer", "layers.3": "second layer", "layers.5": "last layer"}


@lru_cache
def network(steps: int = 20, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """An MLP 9-6-6-4 in float64 after some steps of K-FAC, with the 256 digits (zero to three) that it was trained on.

    The nine inputs are averages over blocks of the image, standardised.

    Args:
        steps: Of training on all 256 examples at once.
        seed: Of the initialisation.

    Returns:
        The model, x (256, 9) and y (256,).
    """
    train = load("digits").train
    few = train.y < 4
    x = nn.functional.adaptive_avg_pool2d(train.x[few].double(), 3).flatten(1)[:256]
    x, y = (x - x.mean(0)) / x.std(0), train.y[few][:256]
    model = MLP([9, 6, 6, 4], seed=seed, dtype=torch.float64)
    often = {"update_factors_every": 1, "update_inverses_every": 1}
    optimizer = KFAC(model, lr=0.1, damping=0.03, momentum=0.0, fisher="exact", **often)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.requires_grad_(True).zero_grad()
    return model, x, y


def approximations(model: nn.Module, x: Tensor) -> dict[str, dict[str, Tensor]]:
    """Each layer's block of the Fisher matrix and three stand-ins for it, as dense matrices.

    Returns:
        By layer: ``Fisher``, ``K-FAC``, ``EKFAC``, ``diagonal``, each (out in, out in).
    """
    whole = dense_fisher(model, x)
    blocks = factors(model, x)
    rescaled = rescale(model, x, {name: block.eigen() for name, block in blocks.items()})
    found = {}
    for name, block in blocks.items():
        index = layer_index(model, name)
        exact = whole[index][:, index]
        found[name] = {
            "Fisher": exact,
            "K-FAC": block.dense(),
            "EKFAC": rescaled[name].dense(),
            "diagonal": exact.diagonal().diag(),
        }
    return found


def relative_error(approximation: Tensor, exact: Tensor) -> float:
    """|approximation - exact| / |exact| in the Frobenius norm; 1 is what the zero matrix would have."""
    return float((approximation - exact).norm() / exact.norm())


def decrease_share(u: Tensor, g: Tensor, M: Tensor) -> Tensor:
    """What a direction u brings of the largest decrease of -g'v + v'Mv / 2, if its length is the best one.

    Along u that is (g'u)^2 / (2 u'Mu), and over all directions g' M^-1 g / 2: the ratio is the squared cosine of the
    angle between u and M^-1 g in the metric M.

    Args:
        u: Direction, (P,) or one a column, (P, n).
        g: Gradient, of the same shape.
        M: Damped curvature, (P, P), positive definite.

    Returns:
        In [0, 1]; a scalar or (n,).
    """
    best = (g * torch.linalg.solve(M, g)).sum(0)
    return (g * u).sum(0) ** 2 / ((u * (M @ u)).sum(0) * best)
