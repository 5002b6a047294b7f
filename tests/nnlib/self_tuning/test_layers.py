"""Best-response layers: against one ordinary network an example, and the Jacobian taken in the ordinary weights."""

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from nnlib.models import MLP
from nnlib.self_tuning import LSTM, Hyperparameter, respond, set_values, squared_norm
from tests.oracles import self_tuning as oracle

assert_close = torch.testing.assert_close
HYPERS = [Hyperparameter("rate", (0, 0.9), 0.1), Hyperparameter("decay", (0, None), 0.5)]


class Sequence(nn.Module):
    """Embedding, LSTM and a linear map of every output: ids (T, B) -> (T, B, 4)."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.out = nn.Embedding(7, 3), LSTM(3, 5), nn.Linear(5, 4)

    def forward(self, ids):
        return self.out(self.lstm(self.embedding(ids))[0])


def networks():
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    return {
        "linear": (MLP((6, 5, 3), dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64), 0),
        "conv": (conv.double(), torch.randn(4, 2, 4, 4, dtype=torch.float64), 0),
        "sequence": (Sequence().double(), torch.randint(7, (6, 4)), 1),
    }


def prepared(kind, seed=1):
    network, x, batch_dim = networks()[kind]
    model = respond(network, HYPERS, gate_std=0.5, seed=seed)
    u = torch.randn(4, 2, dtype=torch.float64)
    return network, model, x, u, batch_dim


@pytest.mark.parametrize("kind", networks())
def test_each_example_has_the_weights_of_its_own_hyperparameters(kind):
    _, model, x, u, batch_dim = prepared(kind)
    model.eval().setting.response = u - model.centre
    assert_close(model(x), oracle.one_by_one(model, x, u, batch_dim))


@pytest.mark.parametrize("kind", networks())
def test_a_response_layer_with_zero_response_is_an_ordinary_layer(kind):
    network, model, x, u, _ = prepared(kind)
    assert_close(model(x), network(x))
    model.setting.response = torch.zeros_like(u)
    assert_close(model(x), network(x))
    silent = respond(network, HYPERS)  # gates that start at zero answer to nothing
    silent.setting.response = u
    assert_close(silent(x), network(x))


@pytest.mark.parametrize("kind", networks())
def test_squared_norm_of_each_example_is_that_of_its_ordinary_network(kind):
    _, model, _, u, _ = prepared(kind)
    model.setting.response = u - model.centre
    expected = [squared_norm(model.ordinary(model.space.values(row))) for row in u]
    assert_close(model.squared_norm(), torch.stack(expected))


@pytest.mark.parametrize("kind", networks())
def test_conversion_there_and_back_at_the_centre_gives_the_same_function(kind):
    network, model, x, _, _ = prepared(kind)
    model.centre.copy_(model.start())
    back = model.ordinary({hyper.name: hyper.init for hyper in HYPERS})
    assert_close(back(x), network(x))
    assert sum(p.numel() for p in back.parameters()) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("kind", networks())
def test_the_linear_network_has_the_value_and_the_slope_of_the_response_at_its_centre(kind):
    _, model, x, u, _ = prepared(kind)
    setting, h = model.eval().setting, 1e-5

    def at(size):
        setting.response = size * u
        return model(x).detach()

    expected, slope = at(0.0), (at(h) - at(-h)) / (2 * h)
    with forward_ad.dual_level():
        setting.response, setting.linear = u, True
        found = forward_ad.unpack_dual(model(x))
    assert_close(found.primal, expected)
    assert_close(found.tangent, slope, rtol=1e-6, atol=1e-8)
    wanted = torch.autograd.grad(found.tangent.sum(), list(model.parameters()), allow_unused=True)
    teaches = {id(p) for p, gradient in zip(model.parameters(), wanted, strict=True) if gradient is not None}
    assert teaches == {id(p) for p in model.response_parameters()}  # w_0 is held


def test_a_layer_has_the_number_of_parameters_that_the_paper_counts():
    model = respond(nn.Linear(6, 5), HYPERS)
    assert sum(p.numel() for p in model.response_parameters()) == 5 * (6 + 2 * 2 + 1)  # out (in + 2n + 1)


def test_weights_of_our_lstm_and_torchs_are_the_same_function_without_drop_connect():
    torch.manual_seed(0)
    plain = nn.LSTM(3, 5)
    ours = LSTM(3, 5)
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(6, 2, 3)
    assert_close(ours(x)[0], plain(x)[0])
    answering = respond(plain, HYPERS)
    answering.setting.response = torch.zeros(2, 2)
    assert_close(answering(x)[0], plain(x)[0])


def test_drop_connect_has_one_mask_for_all_times_and_both_ways_to_compute_agree():
    torch.manual_seed(0)
    network = LSTM(3, 5, "connect").double()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    model = respond(network, [Hyperparameter("connect", (0, 0.9), 0.5, shared=True)])
    outputs = []
    for response in (None, torch.zeros(2, 1, dtype=torch.float64)):
        model.train().setting.response = response
        model.setting.generator = torch.Generator().manual_seed(0)
        outputs.append(model(x)[0])
    set_values(network, {"connect": 0.5}, torch.Generator().manual_seed(0))
    assert_close(outputs[0], outputs[1])
    assert_close(outputs[0], network(x)[0])
    assert not torch.equal(outputs[0], model.eval()(x)[0])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.ReLU()), "no Linear"),
        (nn.LSTM(2, 3, num_layers=2), "one layer"),
        (nn.Embedding(3, 2, padding_idx=0), "padding_idx"),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), "zeros"),
    ],
)
def test_a_network_that_cannot_answer_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        respond(network, HYPERS)


def test_a_shared_weight_is_refused():
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    with pytest.raises(ValueError, match="share a weight"):
        respond(network, HYPERS)
