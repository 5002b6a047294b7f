"""Calls of ``nnlib.curvature``."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.curvature import Kronecker, chain, factors
from nnlib.models import MLP

F64 = torch.float64
X = torch.linspace(-1, 1, 12, dtype=F64).view(4, 3).sin()
Y = torch.tensor([0, 1, 1, 0])
A = torch.eye(4, dtype=F64) + 0.2
S = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]], dtype=F64)

DIRECTIONS = torch.linspace(-1, 1, 52, dtype=F64).sin().view(2, 26)  # (k, P)


def mlp() -> nn.Module:
    return MLP([3, 4, 2], dtype=F64)


def inputs() -> dict:
    return {"model": mlp(), "x": X}


def block() -> Kronecker:
    return Kronecker(A, S)


STATISTICS = {"fisher": "empirical", "likelihood": "categorical", "y": Y, "seed": 0, "batch_size": 3}

CALLS = {
    "Kronecker.damped": lambda: {"self": block(), "damping": 0.1},
    "Eigenbasis.logdet": lambda: {"self": block().eigen(), "damping": 0.1},
    "blocks": lambda: {"model": mlp()},
    "joint_weight": lambda: {"layer": nn.Conv2d(2, 3, 2)},
    "layer_index": lambda: {"model": mlp(), "name": "layers.1"},
    "factors": lambda: inputs() | {"layers": ["layers.1"], "channels": False, "output": lambda f: f} | STATISTICS,
    "rescale": lambda: inputs() | {"bases": {k: b.eigen() for k, b in factors(mlp(), X).items()}} | STATISTICS,
    "jacobian": inputs,
    "jacobian_norm": inputs,
    "gauss_newton_norm": inputs,
    "kfac_norm": inputs,
    "dense_fisher": lambda: inputs() | {"likelihood": "categorical", "y": Y},
    "dense_gauss_newton": inputs,
    "dense_hessian": lambda: inputs() | {"y": Y, "loss": cross_entropy},
    "chain": lambda: inputs() | {
        "fisher": "exact", "likelihood": "bernoulli", "seed": 0, "layers": ["layers.1", "layers.3"],
    },
    "Chain": lambda: vars(chain(mlp(), X)),
    "Chain.damped": lambda: {"self": chain(mlp(), X), "damping": 0.1},
    "Tridiagonal.solve": lambda: {
        "self": chain(mlp(), X).damped(0.1).inverse(),
        "V": {name: block.S @ torch.ones(block.shape, dtype=F64) for name, block in factors(mlp(), X).items()},
    },
    "step_sizes": lambda: inputs() | {
        "gradient": DIRECTIONS[0], "directions": DIRECTIONS, "damping": 0.1, "likelihood": "categorical",
    },
    "KFAC": lambda: {
        "model": mlp(), "lr": 0.1, "damping": 0.1, "layers": ["layers.1", "layers.3"], "exclude": [],
        "output": lambda f: f, "fisher": "exact", "likelihood": "categorical", "inverse": "ekfac", "momentum": 0.9,
        "weight_decay": 0.1, "decay": "l2", "decay_layers": ["layers.1"], "factor_decay": 0.9,
        "update_factors_every": 2, "update_inverses_every": 2, "kl_clip": 0.1, "seed": 0,
    },
}  # fmt: skip
# Made in every step of K-FAC: their matrices are looked at when they are decomposed.
ELSEWHERE = {name: "tests/nnlib/curvature/test_kronecker.py" for name in ("Kronecker", "Cholesky", "Eigenbasis")}
ELSEWHERE["Tridiagonal"] = "tests/nnlib/curvature/test_chain.py"  # made by Chain.inverse alone
ORACLES = {
    "Eigenbasis.logdet": lambda self, damping: torch.logdet(self.dense() + damping * torch.eye(12, dtype=F64)),
}
