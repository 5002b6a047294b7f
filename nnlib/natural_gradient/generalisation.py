"""How hard are these labels for the kernel of a wide network, and what does that promise for new examples?

Paper: arXiv 1905.10961, generalisation, after Arora et al., arXiv 1901.08584.
Chapter: ``book/natural_gradient.ipynb``.
"""

import math

import torch
from torch import Tensor

from nnlib.arguments import real, whole, within
from nnlib.cholesky import cholesky
from nnlib.natural_gradient.two_layer import infinite_gram


def complexity(G: Tensor, y: Tensor) -> float:
    """sqrt(y' G^-1 y / n), the part of the bound on the test loss that depends on the labels.

    sqrt(y' G^-1 y) is also how far the parameters of a linearised network with outputs 0 at the start have to move.

    Args:
        G: Gram matrix, positive definite, shape (n, n).
        y: Targets, shape (n,).

    Raises:
        ValueError: the shapes do not fit, or G is not positive definite.

    Source: arXiv 1901.08584, generalisation. Chapter: ``book/natural_gradient.ipynb``.

    >>> complexity(torch.eye(4), torch.ones(4))
    1.0
    """
    return float((y @ _solve(G, y) / len(y)).sqrt())


def interpolate(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """What the infinitely wide network, 0 at the start and trained until it fits y on x, says about z: shape (k,).

    G_inf(z, x) G_inf(x, x)^-1 y, the same after gradient descent and after the natural gradient.

    Args:
        x: Training inputs, shape (n, d).
        y: Targets, shape (n,).
        z: New inputs, shape (k, d).

    Raises:
        ValueError: the shapes do not fit, or two training inputs are parallel.

    Source: arXiv 1901.08584, generalisation. Chapter: ``book/natural_gradient.ipynb``.

    >>> interpolate(torch.eye(2), torch.tensor([1.0, -1.0]), torch.eye(2))
    tensor([ 1., -1.])
    """
    return infinite_gram(z, x) @ _solve(infinite_gram(x), y)


def loss_bound(distance: float, trace: float, n: int, delta: float = 0.05) -> float:
    """A bound on the expected loss of a linearised network that fits its n examples, true with probability 1 - delta.

    For f(x) = f_0(x) + J(x) v with |v| <= distance, features J and offset f_0 that do not depend on the examples, and
    a loss in [0, 1] that is 1-Lipschitz in f and 0 on every training example. Such is min(1, max(0, 1 - y f)) where
    f = y; it is at least the error rate.

        2 B sqrt(trace) / n + 3 sqrt(log(2 B (B + 1) / delta) / (2n)),   B = ceil(distance)

    the Rademacher bound for balls of radius 1, 2, 3, ..., the B-th with probability delta / (B (B + 1)). With
    trace = n/2 the first term is sqrt(2 y' G^-1 y / n), but for the rounding up.

    Args:
        distance: |v|, how far the parameters moved, >= 0; sqrt(n) ``complexity``.
        trace: tr G = sum_i |J(x_i)|^2, > 0.
        n: Number of training examples, at least 1.
        delta: Probability that the bound may fail, in (0, 1).

    Returns:
        The bound; 1 or more says nothing, as the loss is at most 1.

    Raises:
        ValueError: a number out of its range.

    Source: arXiv 1905.10961, generalisation; the constants are those of the chapter's proof.
    Chapter: ``book/natural_gradient.ipynb``.

    >>> round(loss_bound(distance=10.0, trace=500.0, n=1000), 3)
    0.642
    """
    within("[0, inf)", distance=distance)
    within("(0, inf)", trace=trace)
    whole(1, n=n)
    within("(0, 1)", delta=delta)
    B = max(1, math.ceil(distance))
    return 2 * B * math.sqrt(trace) / n + 3 * math.sqrt(math.log(2 * B * (B + 1) / delta) / (2 * n))


def _solve(G: Tensor, y: Tensor) -> Tensor:
    """G^-1 y of a positive definite G, shape (n,)."""
    real("n", y=y)
    if G.shape != (len(y), len(y)):
        raise ValueError(f"G must have a row and a column for each of the {len(y)} targets: got {tuple(G.shape)}")
    L = cholesky(G, "G must be positive definite: two inputs may be parallel")
    return torch.cholesky_solve(y[:, None], L)[:, 0]
