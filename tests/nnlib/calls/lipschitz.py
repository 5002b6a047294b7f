"""Calls of ``nnlib.lipschitz``."""

import math

import torch
from torch import Tensor, nn

from nnlib import lipschitz
from nnlib.lipschitz import Certificate, MaxMin, OrthogonalLinear, certify, follow, lipschitz_report
from tests.oracles import lipschitz as slow

HERE = "tests/nnlib/lipschitz/"
DOUBLE = {"dtype": torch.float64}
WHERE = {"seed": 0, "device": torch.device("cpu"), **DOUBLE}
Y = torch.tensor([0, 1, 1])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def points() -> Tensor:
    """In the unit box, (3, 2)."""
    return draw(3, 2).sigmoid()


def network() -> nn.Sequential:
    return nn.Sequential(OrthogonalLinear(2, 4, **WHERE), MaxMin(), OrthogonalLinear(4, 2, **WHERE)).eval()


def certificate() -> Certificate:
    return certify(network(), (points(), Y))


def followed() -> lipschitz.Followed:
    return follow(network(), x=points())


CALLS = {
    "Certificate": lambda: dict(vars(certificate())),
    "Certificate.accuracy": lambda: {"self": certificate(), "epsilon": 0.1},
    "Followed": lambda: dict(vars(followed())),
    "Followed.rounding": lambda: {"self": followed(), "reach": draw(3).abs(), "unit": 2.0**-53, "entry": 0.1},
    "GroupSort": lambda: {"group_size": 2},
    "LayerBound": lambda: dict(vars(followed().rows[0])),
    "LipschitzReport": lambda: dict(vars(lipschitz_report(network(), points(), steps=2))),
    "Maxout": lambda: {"group_size": 2},
    "Normalize": lambda: {"mean": 0.5, "std": draw(3).abs()},
    "OrthogonalLinear": lambda: {
        "n_in": 3, "n_out": 2, "bias": True, "gain": 2.0, "order": 2, "steps": 12, **WHERE,
    },
    "Upsample": lambda: {"factor": 2},
    "accuracies": lambda: {
        "model": network(), "split": (points(), Y), "certificate": certificate(), "epsilons": [0.0, 0.1],
    },
    "activation": lambda: {"name": "MaxMin"},
    "bjorck": lambda: {"weight": draw(2, 2, 3), "order": 2, "tolerance": 1e-12, "scale": 3.0},
    "certified_radius": lambda: {"logits": draw(3, 2), "y": Y, "constant": 2.0, "q": math.inf, "rounding": 0.1},
    "certify": lambda: {
        "model": network(), "split": (points(), Y), "p": 2.0, "head": "pairs", "max_residual": 1e-3,
    },
    "conv_norm": lambda: {
        "weight": draw(2, 2, 3, 3), "size": 4, "stride": 1, "padding_mode": "zeros", "padding": 1,
    },
    "conv_norm_bound": lambda: {"weight": draw(2, 2, 3, 3), "stride": 2, "grid": 16},
    "conv_singular_values": lambda: {"weight": draw(2, 3, 3, 3), "size": (4, 2), "stride": 1},
    "dense_norm": lambda: {"weight": draw(3, 2), "norms": (2, math.inf)},
    "exact_distance": lambda: {"p": draw(4, 2), "q": draw(4, 2, seed=1)},
    "export": lambda: {"model": network()},
    "follow": lambda: {"model": network(), "p": 2.0, "x": points(), "max_residual": 1e-3},
    "hinge_loss": lambda: {"margin": 0.5},
    "jacobians": lambda: {"model": nn.Linear(2, 3, **DOUBLE), "x": points()},
    "layer_bound": lambda: {"layer": nn.Conv2d(1, 2, 3, **DOUBLE), "norms": (2, 2), "size": (4, 4)},
    "layer_bounds": lambda: {"model": network(), "p": 2.0, "shape": (2,)},
    "lipschitz_constant": lambda: {"model": network(), "p": 2.0, "shape": (2,)},
    "lipschitz_report": lambda: {
        "model": network(), "data": points(), "p": 2.0, "points": 2, "steps": 2, "seed": 0,
    },
    "margin_cross_entropy": lambda: {"margin": 0.5},
    "margins": lambda: {"logits": draw(3, 2), "y": Y},
    "norm_bound": lambda: {"weight": draw(2, 2, 3)},
    "orthogonal_matrix": lambda: {"rows": 2, "columns": 3, "seed": 0},
    "pgd": lambda: {
        "model": nn.Linear(2, 2, **DOUBLE), "x": points(), "y": Y, "epsilon": 0.1, "p": 2.0, "steps": 3,
        "step_size": 0.5, "from_x": True, "restarts": 1, "losses": ["margin", "cross-entropy"], "clamp": (0.0, 1.0),
        "seed": 0,
    },
    "project_": lambda: {"model": network()},
    "project_every": lambda: {
        "optimizer": torch.optim.SGD(network().parameters(), lr=0.1), "model": network(), "every": 2,
    },
    "residual": lambda: {"weight": draw(2, 2, 3)},
}  # fmt: skip

FORWARD = f"{HERE}test_layers.py::test_inputs_of_another_shape_are_refused_by_name"
ELSEWHERE = {
    "Abs": f"{HERE}test_layers.py::test_all_activations_are_1_lipschitz_in_every_norm",  # takes nothing
    "Constrained": f"{HERE}test_layers.py::test_a_constrained_layer_must_say_what_its_weight_is",
    "FullSort": FORWARD,
    "MaxMin": FORWARD,
    # Every step of a training loop calls it, so that it doesn't look whether numbers are finite.
    "dual_value": f"{HERE}test_wasserstein.py::test_what_a_critic_cant_take_is_refused_by_name",
}


def radius_by_hand(logits: Tensor, y: Tensor, constant: float, q: float, rounding: float) -> Tensor:
    """The smallest distance that the constant allows between a point and one where another logit is as large."""
    found = []
    for z, c in zip(logits.tolist(), y.tolist(), strict=True):
        z = [0.0, *z] if len(z) == 1 else z  # a single logit against 0
        gap = z[c] - max(z[:c] + z[c + 1 :])
        dual = 1 if len(logits[0]) == 1 else 2 ** (1 - 1 / q)
        found.append(max(0.0, gap - 2 * dual * rounding) / (dual * constant))
    return torch.tensor(found, **DOUBLE)


def margins_by_hand(logits: Tensor, y: Tensor) -> Tensor:
    rows = [[math.inf if j == c else z[c] - z[j] for j in range(len(z))] for z, c in zip(logits, y, strict=True)]
    return torch.tensor(rows, dtype=logits.dtype)


ORACLES = {
    "certified_radius": radius_by_hand,
    "conv_norm": lambda weight, size, stride, padding_mode, padding: torch.linalg.svdvals(
        slow.conv_matrix(weight.double(), size, stride, 1 if padding is None else padding)
    )[0],
    "dense_norm": lambda weight, norms: torch.tensor(slow.operator_norm(weight, *norms), **DOUBLE),
    "exact_distance": slow.cheapest_permutation,
    "margins": margins_by_hand,
    "orthogonal_matrix": lambda rows, columns, seed: slow.polar(lipschitz.orthogonal_matrix(rows, columns, seed)),
    "residual": lambda weight: ((torch.linalg.svdvals(weight) ** 2 - 1) ** 2).sum(-1).sqrt(),
}
