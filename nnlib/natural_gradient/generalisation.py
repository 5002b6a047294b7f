"""How hard are these labels for the kernel of a wide network, and what does that promise for new examples?

Paper: arXiv 1905.10961, generalisation, after Arora et al., arXiv 1901.08584.
Chapter: ``book/natural_gradient.ipynb``.
"""

import math

import torch
from torch import Tensor

from nnlib.arguments import real, typed, whole, within
from nnlib.cholesky import cholesky
from nnlib.natural_gradient.two_layer import infinite_gram


@typed
def complexity(G: Tensor, y: Tensor) -> float:
    """sqrt(y' G^-1 y / n), the part of the bound on the test loss that depends on the labels.

    sqrt(y' G^-1 y) is also how far the parameters of a linearised network with outputs 0 at the start have to move.

    Args:
        G: Gram matrix, positive definite, shape (n, n).
        y: Targets, shape (n,).

    Raises:
        TypeError: one of them holds no floating-point numbers.
        ValueError: the shapes do not fit, numbers are not finite, or G is not symmetric and positive definite.

    Source: arXiv 1901.08584, generalisation. Chapter: ``book/natural_gradient.ipynb``.

    >>> complexity(torch.eye(4), torch.ones(4))
    1.0
    """
    real("n n", real("n", y=y), G=G)
    if not torch.allclose(G, G.mT, rtol=1e-4, atol=float(1e-6 * G.abs().max())):
        raise ValueError(f"G must be symmetric: its entries differ from their mirror images by {(G - G.mT).max():g}")
    L = cholesky(G, "G must be positive definite: two inputs may be parallel")
    # |L^-1 y| sqrt(1/n): no difference of large numbers
    return float(torch.linalg.solve_triangular(L, y[:, None], upper=False).norm() / math.sqrt(len(y)))


@typed
def interpolate(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """What the infinitely wide network, 0 at the start and trained until it fits y on x, says about z: shape (k,).

    G_inf(z, x) G_inf(x, x)^-1 y, the same after gradient descent and after the natural gradient.

    Args:
        x: Training inputs, shape (n, d).
        y: Targets, shape (n,).
        z: New inputs, shape (k, d).

    Raises:
        TypeError: one of them holds no floating-point numbers.
        ValueError: the shapes do not fit, numbers are not finite, a row is zero, or two training inputs are parallel.

    Source: arXiv 1901.08584, generalisation. Chapter: ``book/natural_gradient.ipynb``.

    >>> interpolate(torch.eye(2), torch.tensor([1.0, -1.0]), torch.eye(2))
    tensor([ 1., -1.])
    """
    sizes = real("n d", x=x)
    real("k d", sizes | real("n", sizes, y=y), z=z)
    L = cholesky(infinite_gram(x), "x must have no two parallel rows: its Gram matrix is not positive definite")
    return infinite_gram(z, x) @ torch.cholesky_solve(y[:, None], L)[:, 0]


@typed
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
    log = math.log(2) + math.log(B) + math.log(B + 1) - math.log(delta)  # of 2 B (B + 1) / delta, which may overflow
    return 2 * float(B) * math.sqrt(trace) / n + 3 * math.sqrt(log / (2 * n))
