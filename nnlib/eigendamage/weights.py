"""What does it cost to delete single weights, and how should the others move? OBD and OBS, with a dense Hessian.

At a minimum theta of the loss with Hessian H, a change d costs L(theta + d) - L(theta) = d'Hd / 2, to second order.
Chapter: ``book/eigendamage.ipynb``.
"""

import torch
from torch import Tensor


def obd_scores(theta: Tensor, H: Tensor) -> Tensor:
    """The cost of setting each weight to zero while the others stay: H_qq theta_q^2 / 2.

    Args:
        theta: Weights, (d,).
        H: Hessian, symmetric, (d, d).

    Returns:
        (d,).

    Source: LeCun, Denker and Solla, Optimal Brain Damage, NeurIPS 1989. Chapter: ``book/eigendamage.ipynb``.

    >>> obd_scores(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]]))
    tensor([2., 4.])
    """
    return H.diagonal() * theta.square() / 2


def obs_scores(theta: Tensor, H: Tensor) -> Tensor:
    """The cost of setting each weight to zero when all others move to make up for it: theta_q^2 / (2 [H^-1]_qq).

    Args:
        theta: Weights, (d,).
        H: Hessian, symmetric positive definite, (d, d).

    Returns:
        (d,); never larger than :func:`obd_scores`.

    Source: Hassibi and Stork, Optimal Brain Surgeon, NeurIPS 1992. Chapter: ``book/eigendamage.ipynb``.

    >>> obs_scores(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]]))
    tensor([1.7500, 3.5000])
    """
    return theta.square() / (2 * torch.cholesky_inverse(torch.linalg.cholesky(H)).diagonal())


def obs_update(theta: Tensor, H: Tensor, pruned: Tensor) -> Tensor:
    """The change d of least cost d'Hd / 2 that makes theta + d zero where ``pruned`` is true.

    With P the pruned weights and K the others: d_P = -theta_P and d_K = H_KK^-1 H_KP theta_P.

    Args:
        theta: Weights, (d,).
        H: Hessian, symmetric, positive definite on the kept weights, (d, d).
        pruned: Which weights to delete, booleans (d,).

    Returns:
        (d,).

    Source: Hassibi and Stork, NeurIPS 1992, for one weight; for several the same minimisation.
    Chapter: ``book/eigendamage.ipynb``.

    >>> obs_update(torch.tensor([1.0, 2.0]), torch.tensor([[4.0, 1.0], [1.0, 2.0]]), torch.tensor([True, False]))
    tensor([-1.0000,  0.5000])
    """
    kept = ~pruned
    d = -theta.clone()
    d[kept] = compensation(H, pruned, theta[pruned, None])[:, 0]
    return d


def compensation(H: Tensor, pruned: Tensor, removed: Tensor) -> Tensor:
    """H_KK^-1 H_KP X for X of shape (pruned, n): how the kept coordinates make up for the loss of X; (kept, n)."""
    kept = ~pruned
    L = torch.linalg.cholesky(H[kept][:, kept])
    return torch.cholesky_solve(H[kept][:, pruned] @ removed, L)
