"""The paper's GAN set-ups run at small size; the critic's bound stays below the exact distance."""

import pytest
import torch

from nnlib.lipschitz import conv_norm, lipschitz_constant
from tenpapers.data import load
from tenpapers.groupsort.gan import (
    ReshapedConv,
    clipped_critic,
    gan_distance,
    generator_network,
    latent,
    lipschitz_critic,
    train_gan,
)


@pytest.fixture(scope="module")
def images():
    return load("digits").train.x[:400]


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1), (5, 2)])
def test_the_reshaped_convolution_is_1_lipschitz_because_it_is_divided_by_its_overlap(kernel, stride):
    layer = ReshapedConv(3, 5, kernel, stride, dtype=torch.float64).eval()
    with torch.no_grad():
        layer.raw.add_(torch.randn(layer.raw.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    bound, residual = layer.lipschitz_bound()
    true = conv_norm(layer.weight, 12, stride=stride, padding_mode="zeros", padding=layer.padding)
    assert true <= bound <= 1 + 1e-9
    assert residual < 1e-12
    # the published layer has no such division
    assert conv_norm(layer.weight * layer.overlap, 12, stride=stride) > 1.2


@pytest.mark.parametrize("lipschitz", [False, True])
def test_gans_train_for_a_few_steps_the_same_way_twice(images, lipschitz):
    z = latent(4, torch.Generator().manual_seed(1)).float()
    made = [train_gan(images, lipschitz=lipschitz, steps=2, batch_size=16, n_critic=2)(z) for _ in range(2)]
    assert torch.equal(*made)
    assert made[0].shape == (4, 1, 8, 8)
    assert made[0].min() >= 0
    assert made[0].max() <= 1


def test_critics_have_the_same_shape_and_only_one_has_a_bound():
    x = torch.zeros(2, 1, 8, 8)
    assert clipped_critic(1, 8)(x).shape == lipschitz_critic(1, 8)(x).shape == (2, 1)
    assert lipschitz_constant(lipschitz_critic(1, 8)) <= 1 + 1e-5
    with pytest.raises(ValueError, match="size must be a multiple of 4: got 10"):
        generator_network(1, 10)


def test_the_critics_estimate_is_below_the_exact_distance_of_the_same_images(images):
    generator = train_gan(images, steps=2, batch_size=16, n_critic=1)
    found = gan_distance(images, generator, "MaxMin", hidden=(32,), steps=60, lr=0.01, n_test=100)
    assert 0.5 < found["estimate"] <= found["exact"] * found["constant"]
