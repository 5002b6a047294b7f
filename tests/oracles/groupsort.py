"""Slow, obvious versions: the projection onto a ball by a general solver."""

import numpy as np
import torch
from scipy.optimize import minimize
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
