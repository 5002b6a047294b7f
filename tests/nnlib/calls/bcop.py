"""Calls of ``nnlib.bcop``."""

import math
from functools import reduce

import torch
from torch import Tensor

from nnlib.bcop import BCOPConv, SVCMConv, component, gains, island_kernel, projector
from nnlib.lipschitz import orthogonal_matrix
from tests.oracles import bcop as slow
from tests.oracles.lipschitz import conv_matrix

HERE = "tests/nnlib/bcop/"
DOUBLE = {"dtype": torch.float64}
LAYER = {
    "c_in": 2, "c_out": 4, "kernel_size": 2, "stride": 2, "bias": True, "size": (4, 6), "padding_mode": "circular",
    "seed": 0, "device": torch.device("cpu"), **DOUBLE,
}  # fmt: skip


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), **DOUBLE)


def projectors(n: int, *ranks: int) -> Tensor:
    return torch.stack([projector(n, rank, seed=t) for t, rank in enumerate(ranks)])


CALLS = {
    "BCOPConv": lambda: LAYER | {"kernel_size": 3, "rank": [1, 2], "trainable": True, "dilation": 2, "groups": 1},
    "Component": lambda: dict(vars(component(island_kernel(2, [1])))),
    "Gains": lambda: dict(vars(gains(BCOPConv(2, 2, 2), 4))),
    "L2NEConv": lambda: LAYER,
    "LipschitzCNN": lambda: {
        "shape": (1, 8, 8), "outputs": 3, "architecture": "mini", "method": "RKO", "activation": "MaxMin",
        "width": 0.25, "upsample": 1, "seed": 0, "device": torch.device("cpu"), **DOUBLE,
    },
    "OSSNConv": lambda: LAYER | {"steps": 2},
    "RKOConv": lambda: LAYER,
    "SVCMConv": lambda: LAYER,
    "SVCMConv.project_": lambda: {"self": SVCMConv(1, 2, 2, size=4), "steps": 2},
    "clip_and_mask": lambda: {"kernel": draw(2, 3, 2, 2), "size": (4, 6), "steps": 2},
    "component": lambda: {"kernel": island_kernel(2, [0, 1])},
    "conv_layer": lambda: {"method": "BCOP", "c_in": 2, "c_out": 2, "kernel_size": 2},
    "double": lambda: {"h": torch.eye(2, **DOUBLE), "rows": projectors(2, 1, 2), "columns": projectors(2, 0, 1)},
    "factorize_1d": lambda: {"kernel": island_kernel(2, [1, 1])},
    "gains": lambda: {"layer": BCOPConv(2, 2, 2, stride=2, dtype=torch.float64), "size": (4, 6)},
    "gram_kernel": lambda: {"kernel": draw(2, 3, 2, 2)},
    "island_kernel": lambda: {"n": 2, "ranks": [0, 1], "sign": 1, "seed": 0},
    "islands": lambda: {"n": 2, "kernel_size": 3},
    "kernel_1d": lambda: {"h": orthogonal_matrix(2, 2, seed=0), "projectors": list(projectors(2, 1, 2))},
    "operator_matrix": lambda: {"kernel": draw(2, 1, 3, 3), "size": (4, 4), "padding_mode": "zeros"},
    "orthogonality_residual": lambda: {"kernel": draw(2, 3, 2, 2)},
    "projector": lambda: {"n": 3, "rank": 2, "seed": 0},
    "response": lambda: {"kernel": draw(2, 3, 1, 2), "angles": draw(4), "axis": 3},
    "smallest_gain": lambda: {"kernel": draw(2, 3, 1, 2), "angles": 8},
    "winding_number": lambda: {"kernel": island_kernel(2, [0, 1]), "axis": 3},
}  # fmt: skip

# Each layer builds its weight from these in every step, so that they look at shapes and not at numbers.
BUILDING = f"{HERE}test_kernels.py::test_what_is_no_kernel_is_refused_by_name"
ELSEWHERE = {
    "LipschitzConv": f"{HERE}test_layers.py::test_bad_options_are_refused_by_name",
    "bcop_kernel": BUILDING,
    "block_convolution": BUILDING,
    "extend": BUILDING,
}


def gram_by_blocks(kernel: Tensor) -> Tensor:
    """sum W(i, j)ᵀ W(i + a, j + b): the adjoint, then the kernel itself; the other way round for fewer outputs."""
    adjoint = kernel.transpose(0, 1).flip(-2, -1)
    pair = (kernel, adjoint) if len(kernel) < kernel.shape[1] else (adjoint, kernel)
    return slow.block_convolution(*pair)


def off_by_taps(kernel: Tensor) -> float:
    gram = gram_by_blocks(kernel.double())
    middle = (kernel.shape[-2] - 1, kernel.shape[-1] - 1)
    taps = [(a, b) for a in range(gram.shape[-2]) for b in range(gram.shape[-1])]
    eye = torch.eye(len(gram), **DOUBLE)
    return sum((gram[:, :, a, b] - eye * ((a, b) == middle)).norm().item() for a, b in taps)


def waves(kernel: Tensor, angles: Tensor, axis: int) -> Tensor:
    """sum_a W(a) exp(-i a theta), angle by angle."""
    taps = kernel.sum(5 - axis)
    each = [sum(taps[..., a] * torch.exp(-1j * a * theta) for a in range(taps.shape[-1])) for theta in angles]
    return torch.stack(each)


def extended(kernel: Tensor, p: Tensor) -> Tensor:
    """[P, I - P] □ kernel."""
    pair = torch.stack([p, torch.eye(len(p), **DOUBLE) - p], -1)[:, :, None]  # (n, n, 1, 2)
    return slow.block_convolution(pair, kernel)


ORACLES = {
    "gram_kernel": gram_by_blocks,
    "islands": lambda n, kernel_size: 2 * ((kernel_size - 1) * n + 1),  # a winding number from 0 to (k - 1) n, a sign
    "kernel_1d": lambda h, projectors: reduce(extended, projectors, h[:, :, None, None]),
    "operator_matrix": lambda kernel, size, padding_mode: conv_matrix(
        kernel, size if isinstance(size, int) else size[0], padding=kernel.shape[-1] // 2
    ),
    "orthogonality_residual": off_by_taps,
    "response": waves,
    "smallest_gain": lambda kernel, angles: min(
        torch.linalg.svdvals(waves(kernel, torch.tensor([2 * math.pi * t / angles], **DOUBLE), 3)).min().item()
        for t in range(angles)
    ),
}
