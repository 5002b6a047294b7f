"""What does it cost to delete single weights, and how should the others move? OBD and OBS, with a dense Hessian.

At a minimum theta of the loss with Hessian H, a change d costs L(theta + d) - L(theta) = d'Hd / 2, to second order.
Chapter: ``book/eigendamage.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.arguments import real, shown, typed
from nnlib.cholesky import cholesky


@typed
def obd_scores(theta: Tensor, H: Tensor) -> Tensor:
    """The cost of setting each weight to zero while the others stay: H_qq theta_q^2 / 2.

    Args:
        theta: Weights, (d,).
        H: Hessian, symmetric, (d, d).

    Returns:
        (d,).

    Raises:
        ValueError: for other shapes, numbers that are not finite, or H that is not symmetric.

    Source: LeCun, Denker and Solla, Optimal Brain Damage, NeurIPS 1989. Chapter: ``book/eigendamage.ipynb``.

    >>> obd_scores(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]]))
    tensor([2., 4.])
    """
    _fit(theta, H)
    return H.diagonal() * theta.square() / 2


@typed
def obs_scores(theta: Tensor, H: Tensor) -> Tensor:
    """The cost of setting each weight to zero when all others move to make up for it: theta_q^2 / (2 [H^-1]_qq).

    Args:
        theta: Weights, (d,).
        H: Hessian, symmetric positive definite, (d, d).

    Returns:
        (d,); never larger than :func:`obd_scores`.

    Raises:
        ValueError: for other shapes, numbers that are not finite, or H that is not symmetric and positive definite.

    Source: Hassibi and Stork, Optimal Brain Surgeon, NeurIPS 1992. Chapter: ``book/eigendamage.ipynb``.

    >>> obs_scores(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]]))
    tensor([1.7500, 3.5000])
    """
    _fit(theta, H)
    inverse = torch.cholesky_inverse(cholesky(H, "H must be positive definite: add damping to its diagonal"))
    return theta.square() / (2 * inverse.diagonal())


@typed
def obs_update(theta: Tensor, H: Tensor, pruned: Tensor) -> Tensor:
    """The change d of least cost d'Hd / 2 that makes theta + d zero where ``pruned`` is true.

    With P the pruned weights and K the others: d_P = -theta_P and d_K = H_KK^-1 H_KP theta_P.

    Args:
        theta: Weights, (d,).
        H: Hessian, symmetric, positive definite on the kept weights, (d, d).
        pruned: Which weights to delete, booleans (d,).

    Returns:
        (d,).

    Raises:
        ValueError: for other shapes, numbers that are not finite, or H that is not symmetric, or not positive definite
            on the kept weights.

    Source: Hassibi and Stork, NeurIPS 1992, for one weight; for several the same minimisation.
    Chapter: ``book/eigendamage.ipynb``.

    >>> obs_update(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]]), torch.tensor([True, False]))
    tensor([-1.0000,  0.5000])
    """
    _fit(theta, H)
    booleans(len(theta), pruned=pruned)
    d = -theta.clone()
    d[~pruned] = compensation(H, pruned, theta[pruned, None], "H")[:, 0]
    return d


def compensation(H: Tensor, pruned: Tensor, removed: Tensor, name: str) -> Tensor:
    """H_KK^-1 H_KP X for X of shape (pruned, n): how the kept coordinates make up for the loss of X; (kept, n).

    Raises:
        ValueError: where H, which the user knows by this name, is not positive definite on those that are kept.
    """
    kept = ~pruned
    if not kept.any():
        return removed.new_zeros(0, removed.shape[1])
    L = cholesky(H[kept][:, kept], f"{name} must be positive definite on what is kept: add damping to its diagonal")
    return torch.cholesky_solve(H[kept][:, pruned] @ removed, L)


def booleans(n: int, **named: Tensor) -> None:
    """Refuse what does not say of n things which: no booleans (n,)."""
    for name, which in named.items():
        if not isinstance(which, Tensor) or which.dtype != torch.bool or which.shape != (n,):
            raise ValueError(f"{name} must be booleans of shape ({n},): got {shown(which)}")


def _fit(theta: Tensor, H: Tensor) -> None:
    real("d", theta=theta)
    real("d d", H=H)
    if len(theta) != len(H) or theta.dtype != H.dtype:
        raise ValueError(f"theta (d,) and H (d, d) must be of one size and dtype: got {shown(theta)}, {shown(H)}")
    if not bool(((H - H.mT).abs() <= torch.finfo(H.dtype).eps ** 0.5 * H.abs().max()).all()):
        raise ValueError(f"H must be symmetric: its entries differ from their mirror images by {(H - H.mT).max():g}")
