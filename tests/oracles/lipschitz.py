"""Slow, obvious versions: a convolution as a matrix, the polar factor by SVD, transport by its dual too."""

import itertools

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor


def polar(weight: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, U Vᵀ."""
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    return u @ vh


def conv_matrix(weight: Tensor, size: int, stride: int = 1, padding: int | None = None) -> Tensor:
    """A convolution of size x size images as a matrix, entry by entry; circular where ``padding`` is None."""
    c_out, c_in, k_h, k_w = weight.shape
    margin = padding or 0
    if padding is None:
        rows = columns = size // stride
    else:
        rows = (size + 2 * margin - k_h) // stride + 1
        columns = (size + 2 * margin - k_w) // stride + 1
    matrix = torch.zeros(c_out, rows, columns, c_in, size, size, dtype=weight.dtype)
    for i, j, a, b in itertools.product(range(rows), range(columns), range(k_h), range(k_w)):
        y, x = stride * i + a - margin, stride * j + b - margin
        if padding is None:
            y, x = y % size, x % size
        if 0 <= y < size and 0 <= x < size:
            matrix[:, i, j, :, y, x] += weight[:, :, a, b]  # += : a kernel larger than the image wraps onto itself
    return matrix.reshape(c_out * rows * columns, c_in * size * size)


def operator_norm(matrix: Tensor, p: float, q: float) -> float:
    """max ‖M x‖_q over ‖x‖_p <= 1 by trying the extreme points of the ball (p = 1, inf) or by SVD (2 to 2)."""
    n = matrix.shape[1]
    if (p, q) == (2, 2):
        return torch.linalg.svdvals(matrix)[0].item()
    if p == 1:
        corners = torch.eye(n, dtype=matrix.dtype)
    elif p == float("inf"):
        corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=n)), dtype=matrix.dtype)
    else:  # 2 to inf: the best input of each row is the row itself
        corners = torch.nn.functional.normalize(matrix, dim=1)
    return torch.linalg.vector_norm(corners @ matrix.T, q, dim=1).max().item()


def steepest_on_grid(model, low: float, high: float, points: int) -> float:
    """The largest difference quotient of a function of one variable between neighbours of a grid."""
    x = torch.linspace(low, high, points, dtype=torch.float64)[:, None]
    y = model(x)
    return ((y[1:] - y[:-1]).norm(dim=1) / (x[1:] - x[:-1]).norm(dim=1)).max().item()


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
