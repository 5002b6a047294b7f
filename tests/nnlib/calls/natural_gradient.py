"""Calls of ``nnlib.natural_gradient``. The network's forward lets NaN through, as torch does."""

import math

import mpmath
import torch
from torch import nn

from nnlib.natural_gradient import SQUARED, Run, TwoLayer, train
from tests.nnlib.calls.bayes import numbers, spread
from tests.oracles.natural_gradient import dense_jacobian

DOUBLE = {"dtype": torch.float64}
BOUNDARIES = "tests/nnlib/natural_gradient/test_boundaries.py::"


def net(seed=0):
    return TwoLayer(3, 4, seed=seed, **DOUBLE)


def model(**others):
    """Two examples, two outputs of each."""
    return {"model": nn.Linear(3, 2, **DOUBLE), "x": numbers(2, 3)} | others


def run() -> Run:
    return train(net(), numbers(3, 3), numbers(3), "GD", 0.1, 2)


CALLS = {
    "Loss": lambda: dict(vars(SQUARED)),
    "Loss.contraction": lambda: {"self": SQUARED, "lr": 0.25},
    "Run.distance": lambda: {"self": run(), "target": numbers(3)},
    "TwoLayer": lambda: {
        "in_features": 3, "width": 4, "nu": 0.5, "seed": 1, "device": torch.device("cpu"), **DOUBLE
    },
    "TwoLayer.features": lambda: {"self": net(), "x": numbers(2, 3)},
    "TwoLayer.gram": lambda: {"self": net(), "x": numbers(2, 3)},
    "certified_radius": lambda: {"net": net(), "x": numbers(2, 3), "change": 0.1},
    "complexity": lambda: {"G": spread(3, 1), "y": numbers(3)},
    "gram": lambda: model(max_bytes=100),
    "ideal_run": lambda: {
        "x": numbers(2, 3), "u": numbers(2, seed=1), "y": numbers(2, seed=2), "method": "GD", "lr": 0.5, "steps": 3
    },
    "infinite_gram": lambda: {"x": numbers(2, 3), "z": numbers(3, 3, seed=1)},
    "interpolate": lambda: {"x": numbers(2, 3), "y": numbers(2), "z": numbers(3, 3, seed=1)},
    "jacobian_change": lambda: {"model": net(), "reference": net(1), "x": numbers(2, 3), "max_bytes": 10**6},
    "kfac_operator": lambda: {"x": numbers(4, 3), "features": numbers(4, 2, seed=1)},
    "largest_lr": lambda: {"constant": 0.2},
    "leverage_scores": lambda: {"x": numbers(4, 3)},
    "logistic": lambda: {"l2": 0.1},
    "loss_bound": lambda: {"distance": 2.5, "trace": 50.0, "n": 100, "delta": 0.05},
    "natural_gradient": lambda: model(
        slope=numbers(2, 2, seed=1), damping=0.1, curvature=numbers(2, 2, seed=2).square(), max_bytes=100
    ),
    "pull_back": lambda: model(v=numbers(4, seed=1)),
    "radius": lambda: {"residual": 1.5, "smallest": 0.25},
    "stability_constant": lambda: {"change": 0.1, "smallest": 0.25},
    "stable_lr": lambda: {"net": net(), "x": numbers(2, 3)},
}  # fmt: skip
# It raises FloatingPointError where a finite lr is too large.
ELSEWHERE = {"train": BOUNDARIES + "test_what_an_argument_cannot_be_is_refused_by_name"}


def exact(t):
    return mpmath.matrix(t.tolist() if t.ndim == 2 else t[:, None].tolist())


def found(m, *shape):
    return torch.tensor([float(entry) for entry in m], **DOUBLE).reshape(shape)


def direction(model, x, slope, damping, curvature, max_bytes):
    """J' R (R J J' R + damping I)^-1 R^-1 slope, R = H^1/2, with 300 digits; J has full rank."""
    J = dense_jacobian(model, x)
    with mpmath.workdps(300):
        root = mpmath.diag(
            [mpmath.sqrt(h) for h in ([1.0] * len(J) if curvature is None else curvature.flatten().tolist())]
        )
        A = root * exact(J)
        damped = A * A.T + mpmath.mpf(damping) * mpmath.eye(len(J))
        return found(A.T * mpmath.lu_solve(damped, mpmath.inverse(root) * exact(slope.flatten())), J.shape[1])


def kernel(x, z=None):
    """x'z (pi - angle) / (2 pi), each pair on its own, with 300 digits."""
    z = x if z is None else z
    with mpmath.workdps(300):
        return mpmath.matrix([[_of_pair(exact(a), exact(b)) for b in z] for a in x])


def _of_pair(a, b):
    inner = (a.T * b)[0]
    cosine = inner / mpmath.norm(a) / mpmath.norm(b)
    return inner * (mpmath.pi - mpmath.acos(max(-1, min(1, cosine)))) / (2 * mpmath.pi)


def interpolated(x, y, z):
    with mpmath.workdps(300):
        return found(kernel(z, x) * mpmath.lu_solve(kernel(x), exact(y)), len(z))


def hardness(G, y):
    with mpmath.workdps(300):
        return float(mpmath.sqrt((exact(y).T * mpmath.lu_solve(exact(G), exact(y)))[0] / len(y)))


def onto(a):
    """A A^+, the rank by the documented threshold."""
    return a @ torch.linalg.pinv(a, rtol=max(a.shape) * torch.finfo(a.dtype).eps)


def powers(x, u, y, method, lr, steps):
    """y + (I - lr G / lambda_max(G))^k (u - y), with 300 digits."""
    n = len(x)
    largest = float(torch.linalg.eigvalsh(found(kernel(x), n, n))[-1])
    with mpmath.workdps(300):
        step = mpmath.eye(n) - mpmath.mpf(float(lr)) / largest * kernel(x)
        return torch.stack([found(exact(y) + step**k * (exact(u) - exact(y)), n) for k in range(steps + 1)])


def outer(model, x, max_bytes=None):
    J = dense_jacobian(model, x)
    return J @ J.T


def bound(distance, trace, n, delta):
    with mpmath.workdps(700):
        B = max(1, mpmath.ceil(distance))
        return float(
            2 * B * mpmath.sqrt(trace) / n + 3 * mpmath.sqrt(mpmath.log(2 * B * (B + 1) / mpmath.mpf(delta)) / (2 * n))
        )


ORACLES = {
    "Run.distance": lambda self, target: torch.tensor(
        [math.dist(row, target.tolist()) for row in self.outputs.tolist()], **DOUBLE
    ),
    "TwoLayer.gram": lambda self, x: outer(self, x),
    "complexity": hardness,
    "gram": outer,
    "ideal_run": powers,
    "infinite_gram": lambda x, z: found(kernel(x, z), len(x), len(x if z is None else z)),
    "interpolate": interpolated,
    "jacobian_change": lambda model, reference, x, max_bytes: torch.linalg.matrix_norm(
        dense_jacobian(model, x) - dense_jacobian(reference, x), 2
    ),
    "kfac_operator": lambda x, features: onto(x) * onto(features),
    "leverage_scores": lambda x: onto(x).diagonal(),
    "loss_bound": bound,
    "natural_gradient": direction,
    "pull_back": lambda model, x, v: dense_jacobian(model, x).T @ v.flatten(),
    "stable_lr": lambda net, x: 1 / float(torch.linalg.matrix_norm(dense_jacobian(net, x), 2)) ** 2,
}  # fmt: skip
