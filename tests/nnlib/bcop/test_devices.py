"""Tensors follow the device and dtype of their inputs: under a default device without storage, everything runs."""

import pytest
import torch

from nnlib.bcop import (
    METHODS,
    LipschitzCNN,
    bcop_kernel,
    clip_and_mask,
    component,
    conv_layer,
    double,
    factorize_1d,
    gains,
    island_kernel,
    operator_matrix,
    orthogonality_residual,
    projector,
    smallest_gain,
)
from nnlib.lipschitz import certify
from tests.devices import same_without_a_default_device


def all_of(dtype):
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.rand(3, 2, 8, 8, generator=generator, dtype=dtype, device="cpu")
    y = torch.tensor([0, 1, 2], device="cpu")
    found = {}
    for method in METHODS:
        layer = conv_layer(method, 2, 4, 2, stride=2, size=8, device="cpu", dtype=dtype)
        found[method] = layer(x)
        bound, residual = layer.lipschitz_bound()
        found[f"{method} bound"] = torch.tensor([bound, residual, gains(layer, 8).rms], device="cpu")
    ranks = conv_layer("BCOP", 2, 3, 3, rank=[0, 1, 2, 3], device="cpu", dtype=dtype)
    found["ranks"] = ranks(x)
    found["small image"] = conv_layer("BCOP", 2, 3, 5, device="cpu", dtype=dtype)(x[..., :2, :1])
    model = LipschitzCNN((2, 8, 8), 3, "mini", device="cpu", dtype=dtype, width=0.25, upsample=2)
    found["logits"] = model(x)
    found["radius"] = certify(model, (x, y), max_residual=1).radius
    kernel = island_kernel(2, [1, 2]).to(dtype)
    h, projectors = factorize_1d(kernel)
    found["factors"] = torch.stack([h, *projectors])
    p = torch.stack([projector(2, 1, seed=3), projector(2, 2)]).to(dtype)
    found["kernel"] = bcop_kernel(*double(h.to(dtype), p, p))
    found["matrix"] = operator_matrix(found["kernel"], (3, 3))
    found["clipped"] = clip_and_mask(3 * found["kernel"], (4, 4), 2)
    found["numbers"] = torch.tensor(
        [orthogonality_residual(kernel), smallest_gain(kernel), component(kernel).columns], device="cpu"
    )
    return found


@pytest.mark.filterwarnings("ignore:BCOPConv on")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device(dtype):
    found = same_without_a_default_device(lambda: all_of(dtype))
    for name in ("BCOP", "RKO", "OSSN", "SVCM", "RK-L2NE", "ranks", "logits", "kernel", "clipped"):
        assert all(tensor.dtype == dtype for tensor in found[name]), name
