"""How far apart are two samples? The exact Wasserstein-1 distance by an assignment, and what a critic says of it.

    W_1(P, Q) = sup over 1-Lipschitz f of E_P f - E_Q f        (Kantorovich and Rubinstein)

Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn


def exact_distance(p: Tensor, q: Tensor) -> float:
    """W_1 between two samples of equal size: the cheapest assignment, in the 2-norm.

    Args:
        p: Shape (n, ...).
        q: Shape (n, ...).

    Returns:
        The mean cost of a pair. O(n³): a second at n = 2,000.

    Raises:
        ValueError: where the samples differ in size.

    Chapter: book/groupsort.ipynb, book/bcop.ipynb

    >>> exact_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [0.0]]))
    1.0
    """
    if p.shape != q.shape:
        raise ValueError(f"the samples must have the same shape: got {tuple(p.shape)} and {tuple(q.shape)}")
    cost = torch.cdist(p.flatten(1).double(), q.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist")
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return cost[rows, columns].mean().item()


def dual_value(critic: nn.Module, p: Tensor, q: Tensor) -> Tensor:
    """E_P f - E_Q f on samples: for a 1-Lipschitz f never above :func:`exact_distance` of the same samples.

    Args:
        critic: f, from (n, ...) to (n, 1).
        p: Shape (n, ...).
        q: Shape (m, ...).

    Returns:
        A scalar, with gradient.

    Chapter: book/groupsort.ipynb, book/bcop.ipynb
    """
    return critic(p).mean() - critic(q).mean()
