"""Calls of ``nnlib.training``."""

import torch
from torch import nn

from nnlib.models import MLP
from nnlib.training import Split


def split(n=4):
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Split(x, torch.arange(n) % 3)


def data():
    return {
        "train": split(), "validation": split(), "test": split(0), "info": {}, "source": "clouds", "licence": "none"
    }  # fmt: skip


CALLS = {
    "Dataset": data,
    "History": lambda: {"rows": [{"step": 0}], "steps": 3, "averages": {0.9: MLP([2, 3])}, "best_step": 2},
    "device": lambda: {"name": "auto"},
    "evaluate": lambda: {
        "model": MLP([2, 3], dtype=torch.float64), "split": split(), "loss": nn.functional.cross_entropy
    },
}  # fmt: skip
ELSEWHERE = {"fit": "tests/nnlib/test_training.py::test_arguments_out_of_range_are_refused_before_any_step"}
