"""Do device and dtype come from the inputs? With `meta` as default device, a tensor made without one is empty."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nnlib.models import MLP
from nnlib.weight_decay import (
    METHODS,
    damped_direction,
    make_optimizer,
    normalised_curvature,
    rescale_,
    set_norms_,
    weight_norms,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device_or_in_another_dtype(dtype):
    h, theta = torch.linspace(1, 3, 4, dtype=dtype), torch.ones(4, dtype=dtype)
    x, y = torch.linspace(-1, 1, 3 * 64, dtype=dtype).sin().view(3, 1, 8, 8), torch.tensor([0, 1, 2])
    found = {}
    for where in ("cpu", "meta"):
        with torch.device(where):
            result = []
            result.append(damped_direction(torch.diag(h), theta, 0.1))
            for method in METHODS:
                model = MLP([64, 5, 3], batch_norm=True, seed=0, device="cpu", dtype=dtype)
                rescale_(model, 2.0)
                set_norms_(model, {name: 1.0 for name in weight_norms(model)})
                optimizer = make_optimizer(model, method, 0.1, decay="decoupled", weight_decay=0.1)
                for _ in range(2):
                    optimizer.zero_grad()
                    cross_entropy(model(x), y).backward()
                    optimizer.step()
                result += [p.detach() for p in model.parameters()]
                result.append(torch.tensor(normalised_curvature(model, x, "layers.1"), device="cpu"))
            found[where] = result
    for a, b in zip(found["cpu"], found["meta"], strict=True):
        assert a.device.type == b.device.type == "cpu" and torch.equal(a, b)
