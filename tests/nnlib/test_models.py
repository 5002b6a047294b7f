"""Claims about ``nnlib.models``: shapes, and weights that depend on the seed alone."""

import pytest
import torch
from torch import nn

from nnlib.models import MLP, VGG, ResNet, SmallCNN, glorot_, he_

BUILD = {
    "mlp": lambda **options: MLP([64, 48, 32, 10], **options),
    "mlp, bn": lambda **options: MLP([64, 48, 32, 10], batch_norm=True, **options),
    "cnn": lambda **options: SmallCNN(1, 8, 10, width=4, **options),
    "cnn, bn": lambda **options: SmallCNN(1, 8, 10, width=4, batch_norm=True, **options),
    "vgg": lambda **options: VGG(16, 1, width=1 / 32, **({"batch_norm": False} | options)),
    "vgg, bn": lambda **options: VGG(16, 1, width=1 / 32, **options),
    "resnet": lambda **options: ResNet(14, 1, **({"batch_norm": False} | options)),
    "resnet, bn": lambda **options: ResNet(14, 1, **options),
}
SIZES = {name: 32 if name.startswith("vgg") else 8 for name in BUILD}
PLAIN = [name for name in BUILD if not name.endswith("bn")]


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("n", [1, 7])
def test_output_is_one_row_of_logits_for_each_example(name, n):
    x = torch.randn(n, 1, SIZES[name], SIZES[name], generator=torch.Generator().manual_seed(0))
    assert BUILD[name]().eval()(x).shape == (n, 10)


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


@pytest.mark.parametrize("name", PLAIN)
def test_examples_in_a_batch_do_not_influence_each_other(name):
    # True as long as there is no batch normalisation; the chapters on K-FAC rely on it.
    model = BUILD[name](dtype=torch.float64)
    x = torch.randn(6, 1, SIZES[name], SIZES[name], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.cat([model(one) for one in x.split(1)]), model(x))


@pytest.mark.parametrize("sizes", [[], [3], [3, 0, 2], [3, -1]])
def test_mlp_refuses_sizes_that_make_no_network(sizes):
    with pytest.raises(ValueError, match=r"sizes must be (two or more whole numbers|a whole number of at least 1)"):
        MLP(sizes)


@pytest.mark.parametrize("size", [0, 2, 30, -4])
def test_cnn_refuses_images_that_do_not_pool_evenly(size):
    with pytest.raises(ValueError, match=r"image_size must be a (positive multiple of 4|whole number of at least 1)"):
        SmallCNN(image_size=size)


@pytest.mark.parametrize("name", BUILD)
def test_a_model_can_be_built_on_any_device(name):
    # Under a default device of "meta", a tensor made without a device would end there.
    with torch.device("meta"):
        model = BUILD[name](device="cpu")
    assert all(p.device.type == "cpu" and p.isfinite().all() for p in model.parameters())
    assert all(p.device.type == "meta" for p in BUILD[name](device="meta").parameters())


def test_glorot_weights_have_the_variance_of_both_fans_and_biases_are_zero():
    # U(-a, a) with a^2 = 6/(n + m) has variance 2/(n + m); He's 2/n fails at n != m.
    layer = nn.Linear(200, 600)
    glorot_(nn.Sequential(layer), seed=0)
    assert abs(layer.weight.var().item() * (200 + 600) / 2 - 1) < 5 * (2 / layer.weight.numel()) ** 0.5
    assert layer.weight.abs().max() <= (6 / 800) ** 0.5
    assert not layer.bias.any()


def test_batch_norm_leaves_the_draws_of_the_weights_as_they_are():
    # Recorded runs without it must not change because the option exists; and both variants start from the same weights.
    for name in PLAIN:
        plain, normalised = BUILD[name](seed=5), BUILD[f"{name}, bn"](seed=5)
        for a, b in zip(plain.parameters(), normalised.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", [name for name in BUILD if name.endswith("bn")])
def test_batch_norm_has_no_scale_and_shift_and_makes_every_layer_but_the_last_scale_invariant(name):
    # Scale and shift would be parameters of their own; a layer without normalisation would change the output.
    model = BUILD[name](dtype=torch.float64)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(norms) == len(layers) - 1 and not any(list(norm.parameters()) for norm in norms)
    for norm in norms:
        norm.eps = 1e-14  # the invariance is exact without it
    x = torch.randn(16, 1, SIZES[name], SIZES[name], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = model(x)
    with torch.no_grad():
        for layer in layers[:-1]:
            layer.weight.mul_(3.7)
    torch.testing.assert_close(model(x), before, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        layers[-1].weight.mul_(3.7)
    assert (model(x) - before).abs().max() > 0.1


def test_mlp_without_biases_has_none_and_is_homogeneous():
    # f(c x) = c f(x) for c > 0: what the lemmas on the Jacobian stand on.
    model = MLP([5, 8, 8, 3], bias=False, dtype=torch.float64)
    assert len(list(model.parameters())) == 3
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(2.5 * x), 2.5 * model(x))


def test_networks_of_the_papers_have_their_layers_and_sizes():
    # VGG16: 13 convolutions and a head; ResNet32 x 4: 31 convolutions, two projections and a head, up to 256 channels.
    vgg, resnet = VGG(16, device="meta"), ResNet(32, width=4, device="meta")
    shapes = {"vgg": vgg, "resnet": resnet}
    counts = {
        name: [sum(isinstance(m, kind) for m in net.modules()) for kind in (nn.Conv2d, nn.Linear)]
        for name, net in shapes.items()
    }
    assert counts == {"vgg": [13, 1], "resnet": [33, 1]}
    assert sum(p.numel() for p in vgg.parameters()) == 14_719_818
    assert {m.out_channels for m in resnet.modules() if isinstance(m, nn.Conv2d)} == {64, 128, 256}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VGG(13), "depth must be one of 11, 16, 19"),
        (lambda: ResNet(30), r"depth must be 6 n \+ 2"),
        (lambda: ResNet(2), r"depth must be 6 n \+ 2"),
        (lambda: ResNet(8, width=0.5), "width must be a whole number of at least 1: got 0.5"),
    ],
)
def test_depths_and_widths_that_the_family_does_not_have_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
