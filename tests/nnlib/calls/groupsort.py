"""Calls of ``nnlib.groupsort``."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nnlib.groupsort import JacobianPenalty, plain_mlp

HERE = "tests/nnlib/groupsort/"
DOUBLE = {"dtype": torch.float64}
WHERE = {"seed": 0, "device": torch.device("cpu"), **DOUBLE}
DENSE = {"n_in": 3, "n_out": 2, "bias": True, "gain": 2.0, **WHERE}
MLP = {"sizes": [3, 4, 2], "activation": "MaxMin", **WHERE}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def relu_network() -> nn.Sequential:
    return plain_mlp([2, 3, 2], **WHERE)[:3]  # Flatten, Linear, ReLU


CALLS = {
    "JacobianPenalty": lambda: {"model": relu_network(), "weight": 0.05},
    "JacobianPenalty.loss": lambda: {"self": JacobianPenalty(relu_network()), "base": cross_entropy},
    "LipschitzMLP": lambda: MLP | {"constraint": "rows", "constant": 2.0, "onto": "sphere"},
    "ParsevalLinear": lambda: DENSE,
    "ReshapedConv": lambda: {"c_in": 2, "c_out": 3, "kernel_size": 3, "stride": 2, **WHERE},
    "RowLinear": lambda: DENSE | {"p": 2.0, "onto": "ball", "when": "step"},
    "SpectralLinear": lambda: DENSE | {"iterations": 2},
    "abs_from_maxmin": lambda: {"n": 2},
    "affine": lambda: {"weight": draw(2, 3), "bias": draw(2)},
    "full_sort_from_maxmin": lambda: {"n": 3},
    "lattice_interpolant": lambda: {"points": draw(3, 2), "values": 0.1 * draw(3), "p": 2.0},
    "leaky_relu_from_maxmin": lambda: {"slope": 0.1},
    "maxmin_from_full_sort": lambda: {"n": 4, "radius": 2.0},
    "orthonormalised": lambda: {"model": relu_network()},
    "plain_mlp": lambda: MLP | {"dropout": True},
    "project_rows": lambda: {"weight": draw(2, 3), "norm": 1.0, "onto": "ball"},
    "relu_ceiling": lambda: {"hidden_layers": 3},
    "undead_share": lambda: {
        "model": relu_network(), "x": draw(4, 2), "thresholds": torch.tensor([0.5, 1.0], **DOUBLE),
    },
}  # fmt: skip

# The first two take nothing.
ELSEWHERE = {
    "absolute_value": f"{HERE}test_constructions.py::test_two_sorted_units_make_the_absolute_value_at_constant_1",
    "maxmin_from_abs": f"{HERE}test_constructions.py::test_maxmin_is_a_rotation_of_the_absolute_value_and_back",
    "train_critic": f"{HERE}test_wasserstein.py::test_what_cant_be_trained_is_refused_by_name",
}


def nearest(weight: Tensor, norm: float, onto: str) -> Tensor:
    """Row by row."""
    assert onto == "ball"
    if norm != 1:
        size = torch.linalg.vector_norm(weight, norm, dim=1, keepdim=True)
        return weight.clamp(-1, 1) if norm == torch.inf else weight / size.clamp(min=1)
    rows = [row if row.abs().sum() <= 1 else bisected(row) for row in weight]
    return torch.stack(rows)


def bisected(row: Tensor) -> Tensor:
    """sign(w) max(|w| - theta, 0), with theta found by halving; less the largest entry, to which theta is near."""
    gap = row.abs() - row.abs().max()
    low, high = -1.0, 0.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (gap - middle).clamp(min=0).sum() > 1 else (low, middle)
    return row.sign() * (gap - low).clamp(min=0)


def alive(model: nn.Sequential, x: Tensor, thresholds: Tensor) -> Tensor:
    """Unit by unit."""
    units = model(x).T  # (units, n)
    return torch.stack([sum(((u > 0).double().mean() >= t).double() for u in units) / len(units) for t in thresholds])


ORACLES = {
    "project_rows": nearest,
    "undead_share": alive,
}
