"""Calls of ``nnlib.eigendamage``."""

import torch
from torch import Tensor, nn

from nnlib.curvature import Kronecker
from nnlib.eigendamage import METHODS, bottleneck
from nnlib.models import MLP
from nnlib.training import Dataset, Split
from tests.oracles import eigendamage as oracle

F64 = torch.float64
H = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]], dtype=F64)
THETA = torch.tensor([1.0, -2.0, 0.5], dtype=F64)
PRUNED = torch.tensor([True, False, True])
W = torch.linspace(-1, 1, 12, dtype=F64).view(3, 4)  # (out, in)
A = torch.eye(4, dtype=F64) + 0.2
X = torch.linspace(-1, 1, 32, dtype=F64).view(8, 4).sin()
BASIS = Kronecker(A, H).eigen()


def mlp() -> nn.Module:
    return MLP([4, 5, 5, 3], dtype=F64)


def filters() -> dict:
    return {"W": W, "block": Kronecker(A, H)}


def inputs() -> dict:
    return {"model": mlp(), "x": X}


def convolution() -> nn.Module:
    layer, eye = nn.Conv2d(4, 3, 3, padding=1, dtype=F64), torch.eye(4, dtype=F64)
    return nn.Sequential(bottleneck(layer, eye, eye[:3, :3], ~PRUNED | True, torch.arange(4) < 3))


def data() -> Dataset:
    part = Split(X, torch.arange(8) % 3)
    return Dataset(part, part, part, {}, "sines", "none")


Y = torch.arange(8) % 3
EMPIRICAL = {"fisher": "empirical", "likelihood": "categorical", "y": Y, "seed": 0, "batch_size": 4}

CALLS = {
    "obd_scores": lambda: {"theta": THETA, "H": H},
    "obs_scores": lambda: {"theta": THETA, "H": H},
    "obs_update": lambda: {"theta": THETA, "H": H, "pruned": PRUNED},
    "magnitude": lambda: {"W": W},
    "c_obd": lambda: {"W": W, "diagonal": W.square()},
    "c_obs": filters,
    "c_obs_update": lambda: filters() | {"pruned": PRUNED},
    "kron_obd": filters,
    "kron_obs": filters,
    "kron_obs_update": lambda: filters() | {"pruned": PRUNED},
    "importance": lambda: {"W": W, "basis": BASIS},
    "rotate": lambda: {"W": W, "Q_S": BASIS.Q_S, "Q_A": BASIS.Q_A},
    "choose": lambda: {"scores": {"a": THETA, "b": THETA.square()}, "ratio": 0.5, "cap": 0.9, "normalise": True},
    "Fill": lambda: {"present": PRUNED},
    "Bottleneck": lambda: {
        "input": nn.Linear(4, 2, bias=False), "core": nn.Linear(2, 3, bias=False), "output": nn.Linear(3, 5),
    },
    "bottleneck": lambda: {
        "layer": nn.Linear(4, 3, dtype=F64), "Q_A": BASIS.Q_A, "Q_S": BASIS.Q_S, "rows": PRUNED,
        "columns": torch.arange(4) < 2,
    },
    "bottleneck_parameters": lambda: {"c_in": 4, "c_out": 5, "k": 3, "columns": 2, "rows": 3},
    "break_even": lambda: {"k": 3},
    "cost": inputs,
    "seconds": lambda: {"models": [mlp()], "x": X, "repeats": 1},
    "prunable": inputs,
    "filter_scores": lambda: inputs() | {"method": "Kron-OBD", "names": ["layers.1"], "damping": 0.1} | EMPIRICAL,
    "eigenbases": lambda: inputs() | {"names": ["layers.1"], "ekfac": True} | EMPIRICAL,
    "prune": lambda: inputs() | {
        "method": METHODS[-1], "ratio": 0.5, "cap": 0.9, "layers": ["layers.1"], "damping": 0.1, "ekfac": False,
        "normalise": True,
    } | EMPIRICAL,
    "prune_iteratively": lambda: inputs() | {
        "rounds": 1, "finetune": lambda model: model, "method": "C-OBS", "ratio": 0.4, "cap": 0.5, "damping": 0.1,
        "fisher": "sampled", "seed": 0,
    },
    "remove_filters": lambda: inputs() | {"kept": {"layers.1": torch.arange(5) < 3}},
    "cp": lambda: {"W": X.view(4, 2, 4), "rank": 2, "sweeps": 2, "seed": 0},
    "separate": lambda: {"model": convolution(), "rank": 2, "sweeps": 2, "seed": 0},
    "reestimate_batch_norm": lambda: {"model": MLP([4, 5, 3], batch_norm=True, dtype=F64), "x": X, "batch_size": 4},
    "train": lambda: {
        "model": mlp(), "data": data(), "epochs": 1, "lr": 0.1, "batch_size": 8, "momentum": 0.9, "weight_decay": 0.1,
        "seed": 0,
    },
}  # fmt: skip
ELSEWHERE: dict[str, str] = {}


def by_weights(W: Tensor, block: Kronecker) -> Tensor:
    """The sum of the OBS scores of a filter's weights, by the dense inverse."""
    return (W.flatten().square() / (2 * block.dense().inverse().diagonal())).view(W.shape).sum(1)


ORACLES = {
    "obd_scores": lambda theta, H: torch.stack([H[q, q] * theta[q] ** 2 / 2 for q in range(len(theta))]),
    "obs_scores": lambda theta, H: theta.square() / (2 * H.inverse().diagonal()),
    "c_obs": by_weights,
    "kron_obd": lambda W, block: torch.stack(
        [s * w @ block.A @ w / 2 for s, w in zip(block.S.diagonal(), W, strict=True)]
    ),
    "kron_obs": lambda W, block: torch.stack(
        [w @ block.A @ w / (2 * s) for s, w in zip(block.S.inverse().diagonal(), W, strict=True)]
    ),
    "importance": lambda W, basis: oracle.importance(W[:, :, None], basis.Q_S, basis.Q_A, basis.values[:, :, None]),
    "rotate": lambda W, Q_S, Q_A: (
        torch.stack([Q_S.T @ tap @ Q_A for tap in W.flatten(2).unbind(2)], 2) if W.ndim > 2 else Q_S.T @ W @ Q_A
    ),
}
