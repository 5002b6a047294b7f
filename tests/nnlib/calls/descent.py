"""Calls of ``nnlib.descent``."""

import torch
from torch import nn


def descending():
    x = torch.tensor([2.0], requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.25)
    return {
        "loss": lambda: x.square().sum(),
        "optimizer": optimizer,
        "steps": 2,
        "clip": 1.0,
        "schedule": torch.optim.lr_scheduler.StepLR(optimizer, 1),
        "after": lambda step, loss: False,
        "look_at": [1],
        "checkpoint": None,
        "progress": False,
    }


CALLS = {
    "Checkpoint": lambda: {
        "path": "no/such/run.pt", "every": 2, "asked": {"seed": 0}, "model": nn.Linear(1, 1),
        "generator": torch.Generator(),
    },
    "descend": descending,
}  # fmt: skip
ELSEWHERE = {"one_number": "tests/nnlib/test_training.py::test_a_loss_that_is_no_number_is_refused"}
