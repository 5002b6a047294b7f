"""Slow, obvious versions: projection by a solver, transport over all permutations, a critic as a linear program."""

import itertools

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor


def nearest_in_l1_ball(row: Tensor) -> Tensor:
    """The point of the unit 1-norm ball nearest to a row, by a general solver on positive and negative parts."""
    w = row.numpy()
    n = len(w)

    def distance(z):
        return ((z[:n] - z[n:] - w) ** 2).sum()

    def slope(z):
        d = 2 * (z[:n] - z[n:] - w)
        return np.concatenate([d, -d])

    room = {"type": "ineq", "fun": lambda z: 1 - z.sum(), "jac": lambda z: -np.ones(2 * n)}
    start = np.full(2 * n, 0.5 / n)
    options = {"ftol": 1e-15, "maxiter": 1000}
    found = minimize(
        distance, start, jac=slope, bounds=[(0, None)] * (2 * n), constraints=[room], method="SLSQP", options=options
    )
    return torch.from_numpy(found.x[:n] - found.x[n:])


def cheapest_permutation(p: Tensor, q: Tensor) -> float:
    """W_1 of two small samples by trying every assignment."""
    cost = (p[:, None] - q[None]).norm(dim=2)
    n = len(p)
    return min(cost[range(n), permutation].mean().item() for permutation in map(list, itertools.permutations(range(n))))


def best_critic(p: Tensor, q: Tensor) -> float:
    """W_1 of two small samples from the dual: the best values f(p_i), f(q_j) with all slopes at most 1."""
    points = torch.cat([p, q]).numpy()
    n, m = len(p), len(q)
    gain = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    rows, limits = [], []
    for i, j in itertools.permutations(range(n + m), 2):
        row = np.zeros(n + m)
        row[i], row[j] = 1, -1
        rows.append(row)
        limits.append(np.linalg.norm(points[i] - points[j]))
    return -linprog(-gain, A_ub=np.array(rows), b_ub=limits, bounds=(None, None)).fun
