"""Do device and dtype come from the inputs? Under the default device `meta`, a tensor made without one is empty."""

import pytest
import torch
from torch import nn

from nnlib.eigendamage import (
    METHODS,
    cost,
    cp,
    obs_scores,
    obs_update,
    prune,
    prune_iteratively,
    reestimate_batch_norm,
    separate,
    train,
)
from nnlib.training import Dataset, Split


def net(dtype):
    here = {"device": "cpu", "dtype": dtype}
    layers = [nn.Conv2d(1, 6, 3, padding=1, **here), nn.BatchNorm2d(6, **here), nn.ReLU()]
    layers += [nn.Conv2d(6, 8, 3, **here), nn.BatchNorm2d(8, **here), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(32, 6, **here), nn.ReLU(), nn.Linear(6, 3, **here)]
    model, generator = nn.Sequential(*layers), torch.Generator("cpu").manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64, device="cpu"))
    return model


def inputs(dtype):
    x = torch.arange(128, dtype=torch.float64, device="cpu").sin().view(8, 1, 4, 4).to(dtype)
    return x, torch.arange(8, device="cpu") % 3


def all_of(dtype):
    """Every function of the package, as a dict of lists of tensors."""
    model, (x, y) = net(dtype), inputs(dtype)
    split = Split(x, y)
    data = Dataset(split, split, split, {}, "", "")
    result = {}
    for method in METHODS:
        result[method] = list(prune(model, x, method, 0.5).model.state_dict().values())
    pruned = prune(model, x, ratio=0.7, ekfac=True).model
    result["ekfac"] = list(pruned.parameters())
    result["separate"] = list(separate(pruned, sweeps=3).parameters())
    result["norms"] = list(reestimate_batch_norm(pruned, x, 4).buffers())
    result["train"] = list(train(pruned, data, epochs=1, lr=1e-3, batch_size=4).parameters())
    rounds = prune_iteratively(model, x, 2, lambda network: None)
    result["rounds"] = list(rounds[-1].model.parameters())
    result["cp"] = list(cp(x.flatten(2).mT[:3], 2, sweeps=2))
    H = x.flatten(1).T @ x.flatten(1) + torch.eye(16, dtype=dtype, device="cpu")
    result["weights"] = [obs_scores(H[0], H), obs_update(H[0], H, H[0] > 0)]
    assert cost(pruned, x).flops > 0
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device_or_in_another_dtype(dtype):
    """Under a default device without storage everything comes out on the CPU, with the same values as without it."""
    plain = all_of(dtype)
    with torch.device("meta"):
        found = all_of(dtype)
    for name, tensors in found.items():
        for tensor, expected in zip(tensors, plain[name], strict=True):
            assert tensor.device.type == "cpu", name
            assert tensor.dtype == dtype or not tensor.is_floating_point(), name
            assert torch.equal(tensor, expected), name
