"""What does K-FAC do in function space? Its operator on the residuals, and the leverage scores that it turns into.

Paper: arXiv 1905.10961, K-FAC. Chapter: ``book/natural_gradient.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.arguments import shown, typed


@typed
def leverage_scores(x: Tensor) -> Tensor:
    """l_i = x_i' (X'X)^+ x_i, in [0, 1], with sum l_i = rank(X): shape (n,).

    An input with l_i near 1 points where no other does; K-FAC learns it first.

    Args:
        x: Finite, shape (n, d), any rank. Where the rows are independent (n <= d), every score is 1.

    Raises:
        ValueError: x is no finite matrix.

    Source: arXiv 1905.10961, K-FAC. Chapter: ``book/natural_gradient.ipynb``.

    >>> leverage_scores(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    tensor([1.0000, 0.5000, 0.5000])
    """
    return column_space(x=x).square().sum(1).clamp(max=1)


def column_space(**named: Tensor) -> Tensor:
    """An orthonormal basis U of the column space of A (n, k), shape (n, rank): A (A'A)^+ A' = U U'.

    By singular values of A itself: those of A A' are squares, which lose half of the digits where rows are nearly
    parallel. The rank counts those above max(n, k) eps times the largest.

    Args:
        named: A by the name of the argument that it was.
    """
    ((name, a),) = named.items()
    if a.ndim != 2 or not a.is_floating_point():
        raise ValueError(f"{name} must be a matrix of real numbers, one example a row: got {shown(a)}")
    if not bool(a.isfinite().all()):
        raise ValueError(f"{name} must hold finite numbers: got NaN or infinity")
    tall = a if len(a) > a.shape[1] else torch.linalg.qr(a.mT, mode="r").R.mT  # the same U, from (n, n)
    U, s, _ = torch.linalg.svd(tall, full_matrices=False)
    floor = max(a.shape) * torch.finfo(a.dtype).eps * s[:1]
    return U[:, s > floor]


@typed
def kfac_operator(x: Tensor, features: Tensor) -> Tensor:
    """J F^+ J' of the Kronecker-factored F = (S'S) (x) (X'X): what one step with lr 1 takes off the residuals.

    It is (X (X'X)^+ X') o (S (S'S)^+ S'). Where S has full row rank the second factor is the identity, and the
    operator is the diagonal matrix of the leverage scores.

    Args:
        x: X, shape (n, d).
        features: S, shape (n, m), from ``TwoLayer.features``.

    Returns:
        Shape (n, n).

    Raises:
        ValueError: one is no finite matrix, or they have not as many rows.

    Source: arXiv 1905.10961, K-FAC. Chapter: ``book/natural_gradient.ipynb``.
    """
    U, V = column_space(x=x), column_space(features=features)
    if len(U) != len(V):
        raise ValueError(f"x and features must have a row for each example: got {len(U)} and {len(V)}")
    return (U @ U.mT) * (V @ V.mT)
