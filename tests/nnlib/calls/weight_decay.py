"""Calls of ``nnlib.weight_decay``. Options of K-FAC are those of ``nnlib.curvature``."""

import mpmath
import torch
from torch import nn

from nnlib.models import MLP
from nnlib.weight_decay import DecoupledSGD
from tests.nnlib.calls.bayes import numbers, spread


def network():
    return MLP([3, 4, 2], batch_norm=True, dtype=torch.float64)


def weights():
    return [nn.Parameter(numbers(3))]


def optimizer(**options):
    return {
        "model": network(), "lr": 0.1, "decay": "decoupled", "weight_decay": 0.01, "where": "hidden", "momentum": 0.5
    } | options  # fmt: skip


CALLS = {
    "DecoupledSGD": lambda: {"params": weights(), "lr": 0.1, "momentum": 0.5, "weight_decay": 0.01},
    "DecoupledSGD.add_param_group": lambda: {
        "self": DecoupledSGD(weights(), lr=0.1), "param_group": {"params": weights(), "lr": 0.2}
    },
    "damped_direction": lambda: {"curvature": spread(3, 1), "gradient": numbers(3), "damping": 0.1},
    "decayed_layers": lambda: {"model": network(), "where": "last"},
    "effective_damping": lambda: {"damping": 0.1, "norm": 3.0},
    "effective_lr": lambda: {"method": "SGD", "lr": 0.1, "norm": numbers(3).abs()},
    "equilibrium_norm": lambda: {"lr": 0.1, "weight_decay": 0.05, "gradient_norm": 1.5},
    "equilibrium_turn": lambda: {"lr": 0.1, "weight_decay": 0.05},
    "invariant_layers": lambda: {"model": network()},
    "make_optimizer": lambda: optimizer(method="SGD"),
    "matched_lr": lambda: {"method": "Adam", "lr": 0.1, "c": 2.0},
    "normalised_curvature": lambda: {
        "model": network().eval(), "x": numbers(4, 3), "layer": "layers.1", "fisher": "sampled", "seed": 1
    },
    "rescale_": lambda: {"model": network(), "c": 2.0},
    "set_norms_": lambda: {"model": network(), "norms": {"layers.1": 3.0}},
    "weight_norms": lambda: {"model": network(), "layers": ["layers.1"]},
}  # fmt: skip
ELSEWHERE: dict[str, str] = {}


def direction(curvature, gradient, damping):
    """With 700 digits, so that nothing is lost beside anything."""
    with mpmath.workdps(700):
        damped = mpmath.matrix(curvature.tolist()) + mpmath.mpf(float(damping)) * mpmath.eye(len(gradient))
        step = mpmath.lu_solve(damped, mpmath.matrix(gradient.tolist()))
        return torch.tensor([float(entry / mpmath.norm(step)) for entry in step], dtype=torch.float64)


def norm_at_rest(lr, weight_decay, gradient_norm):
    with mpmath.workdps(700):
        lr, wd, g = (mpmath.mpf(value) for value in (lr, weight_decay, gradient_norm))
        return float((lr * g**2 / (wd * (2 - lr * wd))) ** 0.25)


def turn(lr, weight_decay):
    with mpmath.workdps(700):
        return float(mpmath.acos(1 - mpmath.mpf(lr) * mpmath.mpf(weight_decay)))


ORACLES = {
    "damped_direction": direction,
    "effective_damping": lambda damping, norm: float(mpmath.mpf(damping) * mpmath.mpf(norm) ** 2),
    "effective_lr": lambda method, lr, norm: torch.tensor(
        [float(mpmath.mpf(float(lr)) / mpmath.mpf(length) ** 2) for length in norm.flatten().tolist()],
        dtype=torch.float64,
    ).view_as(norm) if isinstance(norm, torch.Tensor) else lr / norm**2,
    "equilibrium_norm": norm_at_rest,
    "equilibrium_turn": turn,
    "matched_lr": lambda method, lr, c: lr * c,
}  # fmt: skip
