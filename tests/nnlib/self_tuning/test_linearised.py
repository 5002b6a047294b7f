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


@pytest.mark.parametrize("form", [tuple, list, lambda outputs: dict(zip("abc", outputs, strict=True))])
def test_of_several_outputs_each_has_its_linear_term(form):
    """Breaks if the outputs of one form are left in pairs, whose slopes a loss would not see."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2, dtype=torch.float64)

        def forward(self, x):
            hidden = self.layer(x)
            return form((hidden, x, hidden.square()))

    model, _ = prepared(Two())
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    outputs, at_once = linearised(model, x), model(x)
    assert type(outputs) is type(at_once)
    first, untouched, squared = outputs.values() if isinstance(outputs, dict) else outputs
    torch.testing.assert_close(first, at_once["a"] if isinstance(at_once, dict) else at_once[0])
    assert torch.equal(untouched, x)
    at = model.network.layer
    plain = x @ at.weight.T + at.bias
    torch.testing.assert_close(squared, plain**2 + 2 * plain * (first - plain))


def test_outputs_of_another_class_are_refused():
    """Breaks if their tensors, taken for no part of the outputs, lose their slopes in silence."""

    class Held(nn.Linear):
        def forward(self, x):
            return {1: {super().forward(x)}}

    network = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), Held(3, 2, dtype=torch.float64))
    model, _ = prepared(network)
    with pytest.raises(TypeError, match="outputs must be tensors, or tuples, lists and dicts of them"):
        linearised(model, torch.ones(4, 3, dtype=torch.float64))


def test_the_network_is_ordinary_again_afterwards_also_where_it_fails():
    model, _ = prepared(MLP((6, 5, 3), dtype=torch.float64))
    with pytest.raises(RuntimeError):
        linearised(model, torch.zeros(4, 5, dtype=torch.float64))
    assert not model.setting.linear
    linearised(model, torch.zeros(4, 6, dtype=torch.float64))
    assert not model.setting.linear
