"""Tensors follow the device and dtype of their inputs: under a default device without storage, everything runs."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from nnlib.lipschitz import (
    FullSort,
    MaxMin,
    Normalize,
    OrthogonalLinear,
    bjorck,
    certify,
    conv_norm,
    conv_norm_bound,
    conv_singular_values,
    dense_norm,
    hinge_loss,
    lipschitz_report,
    margin_cross_entropy,
    norm_bound,
    pgd,
    residual,
)
from tests.devices import same_without_a_default_device


def network(dtype):
    return nn.Sequential(
        Normalize([0.5], [0.5]),
        nn.Flatten(),
        OrthogonalLinear(16, 8, seed=0, dtype=dtype, device="cpu"),
        MaxMin(),
        OrthogonalLinear(8, 8, seed=1, dtype=dtype, device="cpu"),
        FullSort(),
        OrthogonalLinear(8, 3, seed=2, dtype=dtype, device="cpu"),
    )


def all_of(dtype):
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.rand(6, 1, 4, 4, generator=generator, dtype=dtype, device="cpu")
    y = torch.tensor([0, 1, 2, 0, 1, 2], device="cpu")
    weight = torch.randn(3, 4, 3, 3, generator=generator, dtype=dtype, device="cpu")
    model = network(dtype)
    logits = model(x)
    certificate = certify(model, (x, y))
    report = lipschitz_report(model, x, steps=3)
    return {
        "bjorck": bjorck(weight),
        "norm_bound": norm_bound(weight),
        "residual": residual(weight),
        "dense": dense_norm(weight[0, 0], (2, math.inf)),
        "singular values": conv_singular_values(weight, 6),
        "circular": conv_norm(weight, 6, stride=2),
        "zeros": conv_norm(weight, 6, padding_mode="zeros"),
        "bound": conv_norm_bound(weight),
        "logits": logits,
        "hinge": hinge_loss(0.5)(logits, y),
        "margin": margin_cross_entropy(0.5)(logits, y),
        "radius": certificate.radius,
        "correct": certificate.correct,
        "point": report.point,
        "attained": torch.tensor(pd.DataFrame(report.rows).attained.tolist(), device="cpu"),
        "attack": pgd(model, x, y, 0.3, steps=3),
        "pairs": certify(model, (x, y), head="pairs").radius,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device(dtype):
    found = same_without_a_default_device(lambda: all_of(dtype))
    for name in ("bjorck", "norm_bound", "logits", "hinge", "margin", "point", "attack"):
        assert all(tensor.dtype == dtype for tensor in found[name]), name
