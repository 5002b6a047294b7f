"""The network that is linear in its response: against one Jacobian product an example in the ordinary weights."""

import pytest
import torch
from torch import nn

from nnlib.models import MLP
from nnlib.self_tuning import Hyperparameter, respond
from nnlib.self_tuning.linearised import linearised
from tests.oracles import self_tuning as oracle

HYPERS = [Hyperparameter("rate", (0, 0.9), 0.1), Hyperparameter("decay", (0, None), 0.5)]


def prepared(network, n=4):
    model = respond(network, HYPERS, gate_std=0.5, seed=1).eval()
    u = model.start() + torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model.centre.copy_(model.start())
    model.place(u, u - model.centre)
    return model, u


def test_value_and_slope_are_those_of_the_jacobian_in_the_ordinary_weights():
    model, u = prepared(MLP((6, 5, 3), dtype=torch.float64))
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(linearised(model, x), oracle.linearised(model, x, u))
    assert not torch.allclose(linearised(model, x), model(x))  # the response itself is not linear


def test_of_several_outputs_each_has_its_linear_term():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2, dtype=torch.float64)

        def forward(self, x):
            hidden = self.layer(x)
            return hidden, x, hidden.square()

    model, _ = prepared(Two())
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    first, untouched, squared = linearised(model, x)
    torch.testing.assert_close(first, model(x)[0])
    assert torch.equal(untouched, x)
    at = model.network.layer
    plain = x @ at.weight.T + at.bias
    torch.testing.assert_close(squared, plain**2 + 2 * plain * (first - plain))


def test_the_network_is_ordinary_again_afterwards_also_where_it_fails():
    model, _ = prepared(MLP((6, 5, 3), dtype=torch.float64))
    with pytest.raises(RuntimeError):
        linearised(model, torch.zeros(4, 5, dtype=torch.float64))
    assert not model.setting.linear
    linearised(model, torch.zeros(4, 6, dtype=torch.float64))
    assert not model.setting.linear
