"""Tensors follow the device and dtype of their inputs: under a default device without storage, everything runs."""

import math

import pytest
import torch
from torch import nn

from nnlib.groupsort import (
    JacobianPenalty,
    LipschitzMLP,
    ReshapedConv,
    lattice_interpolant,
    plain_mlp,
    project_rows,
    train_critic,
)
from nnlib.lipschitz import project_
from tests.devices import same_without_a_default_device


def all_of(dtype):
    where = {"dtype": dtype, "device": "cpu"}
    x = torch.rand(6, 4, generator=torch.Generator("cpu").manual_seed(0), **where)
    found = {f"rows {onto}": project_rows(x, 1, onto) for onto in ("ball", "sphere", "scaling")}
    for constraint in ("Björck", "spectral norm", "Parseval", "rows", "rows after step", "mixed"):
        model = LipschitzMLP([4, 8, 2], "MaxMin", constraint, **where)
        project_(model)
        found[constraint] = model(x)
    found["convolution"] = ReshapedConv(1, 2, 2, 1, **where)(x.view(6, 1, 2, 2))
    penalised = JacobianPenalty(plain_mlp([4, 8, 2], **where))
    found["penalised"] = penalised(x)
    found["penalty"] = penalised.penalty
    critic = LipschitzMLP([4, 8, 1], "GroupSort4", **where)
    train_critic(critic, lambda n, generator: (x, -x), steps=2, batch_size=6)
    found["critic"] = critic(x)
    points = x[:, :2].double()
    found["lattice"] = lattice_interpolant(points, points[:, 0] / 2, math.inf)(points).to(dtype)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device(dtype):
    found = same_without_a_default_device(lambda: all_of(dtype))
    assert all(tensor.dtype == dtype for tensors in found.values() for tensor in tensors)


def test_a_layer_without_a_device_lives_on_the_default_one():
    with torch.device("meta"):
        layer = LipschitzMLP([2, 3], "MaxMin")[1]
    assert layer.raw.device == layer.bias.device == torch.device("meta")
    assert isinstance(layer.raw, nn.Parameter)
