"""Claims about ``nnlib.models``: shapes, and weights that depend on the seed alone."""

import pytest
import torch
from torch import nn

from nnlib.models import MLP, SmallCNN, he_

BUILD = {
    "mlp": lambda **options: MLP([64, 48, 32, 10], **options),
    "cnn": lambda **options: SmallCNN(1, 8, 10, width=4, **options),
}


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("n", [1, 7])
def test_output_is_one_row_of_logits_for_each_example(name, n):
    assert BUILD[name]()(torch.randn(n, 1, 8, 8)).shape == (n, 10)


@pytest.mark.parametrize("name", BUILD)
def test_weights_depend_on_the_seed_alone(name):
    # Fails if the draw reads torch's global generator.
    torch.manual_seed(1)
    first = BUILD[name](seed=3)
    torch.manual_seed(2)
    again, other = BUILD[name](seed=3), BUILD[name](seed=4)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("name", BUILD)
def test_dtype_changes_the_rounding_of_the_weights_and_nothing_else(name):
    # Fails if the draw is made in the parameters' own dtype: float32 and float64 draws are different numbers.
    single, double = BUILD[name](dtype=torch.float32), BUILD[name](dtype=torch.float64)
    for a, b in zip(single.parameters(), double.parameters(), strict=True):
        assert (a.dtype, b.dtype) == (torch.float32, torch.float64)
        assert torch.equal(a, b.to(torch.float32))


@pytest.mark.parametrize("layer", [nn.Linear(400, 500), nn.Conv2d(40, 300, 3)])
def test_he_weights_have_variance_two_over_fan_in_and_biases_zero(layer):
    # N(0, 2/n): the sample variance of m draws is within 5 sqrt(2/m) relative; fan-out in place of fan-in fails.
    he_(layer, seed=0)
    fan_in = layer.weight[0].numel()
    m = layer.weight.numel()
    assert abs(layer.weight.var().item() * fan_in / 2 - 1) < 5 * (2 / m) ** 0.5
    assert abs(layer.weight.mean().item()) < 5 * (2 / fan_in / m) ** 0.5
    assert not layer.bias.any()


def test_he_initialisation_keeps_the_size_of_the_signal_through_twenty_layers():
    # With variance 1/n the second moment would fall by 2 a layer, to 1e-6.
    model = MLP([512] * 21, seed=0)
    x = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    assert 0.2 < model.layers[:-1](x).square().mean() / x.square().mean() < 5


def test_mlp_has_no_relu_after_its_last_layer():
    kinds = [type(layer) for layer in MLP([4, 3, 2]).layers]
    assert kinds == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    assert (MLP([4, 64, 10])(torch.randn(64, 4, generator=torch.Generator().manual_seed(0))) < 0).any()


@pytest.mark.parametrize("name", BUILD)
def test_examples_in_a_batch_do_not_influence_each_other(name):
    # True as long as there is no batch normalisation; the chapters on K-FAC rely on it.
    model = BUILD[name](dtype=torch.float64)
    x = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.cat([model(one) for one in x.split(1)]), model(x))


@pytest.mark.parametrize("sizes", [[], [3], [3, 0, 2], [3, -1]])
def test_mlp_refuses_sizes_that_make_no_network(sizes):
    with pytest.raises(ValueError, match="sizes must be at least two positive integers"):
        MLP(sizes)


@pytest.mark.parametrize("size", [0, 2, 30, -4])
def test_cnn_refuses_images_that_do_not_pool_evenly(size):
    with pytest.raises(ValueError, match="positive multiple of 4"):
        SmallCNN(image_size=size)


@pytest.mark.parametrize("name", BUILD)
def test_a_model_can_be_built_on_any_device(name):
    # Under a default device of "meta", a tensor made without a device would end there.
    with torch.device("meta"):
        model = BUILD[name](device="cpu")
    assert all(p.device.type == "cpu" and p.isfinite().all() for p in model.parameters())
    assert all(p.device.type == "meta" for p in BUILD[name](device="meta").parameters())
