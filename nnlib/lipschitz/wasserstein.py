"""How far apart are two samples? The exact Wasserstein-1 distance by an assignment, and what a critic says of it.

    W_1(P, Q) = sup over 1-Lipschitz f of E_P f - E_Q f        (Kantorovich and Rubinstein)

Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nnlib.arguments import real, typed
from nnlib.lipschitz.applied import applied


@typed
def exact_distance(p: Tensor, q: Tensor) -> float:
    """W_1 between two samples of equal size: the cheapest assignment, in the 2-norm.

    Args:
        p: Shape (n, ...), finite.
        q: Shape (n, ...), finite.

    Returns:
        The mean cost of a pair. O(n³): a second at n = 2,000.

    Raises:
        TypeError: a sample that is no tensor of floating-point numbers.
        ValueError: where the samples differ in size, or are not finite.

    Chapter: book/groupsort.ipynb, book/bcop.ipynb

    >>> exact_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [0.0]]))
    1.0
    """
    real("n inputs ...", p=p)
    real("n inputs ...", q=q)
    if p.shape != q.shape:
        raise ValueError(f"p and q must have the same shape: got {tuple(p.shape)} and {tuple(q.shape)}")
    cost = torch.cdist(p.flatten(1).double(), q.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist")
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    return cost[rows, columns].mean().item()


@typed
def dual_value(critic: Callable[[Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
    """E_P f - E_Q f on samples: for a 1-Lipschitz f never above :func:`exact_distance` of the same samples.

    Args:
        critic: f, from (n, ...) to (n, 1).
        p: Shape (n, ...).
        q: Shape (m, ...).

    Returns:
        A scalar, with gradient.

    Raises:
        ValueError: samples that the critic can't take, or that are empty; a critic of more than one output.

    Chapter: book/groupsort.ipynb, book/bcop.ipynb
    """
    values = applied(critic, p=p), applied(critic, q=q)
    for value, sample in zip(values, (p, q), strict=True):
        if not value.numel() == len(sample) > 0:  # a mean over several outputs would be another function's
            raise ValueError(f"critic must give one number for each of at least one point: got {tuple(value.shape)}")
    return values[0].mean() - values[1].mean()
