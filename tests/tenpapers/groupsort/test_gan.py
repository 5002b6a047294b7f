"""The paper's GAN set-ups run at small size, the same way twice; one of the critics has a bound."""

import pytest
import torch

from nnlib.lipschitz import lipschitz_constant
from tenpapers.groupsort.gan import clipped_critic, generator_network, latent, lipschitz_critic, train_gan
from tenpapers.groupsort.workloads import images


@pytest.mark.parametrize("lipschitz", [False, True])
def test_gans_train_for_a_few_steps_the_same_way_twice(lipschitz):
    x = images("digits").train.x[:400]
    z = latent(4, torch.Generator().manual_seed(1)).float()
    made = [train_gan(x, lipschitz=lipschitz, steps=2, batch_size=16, n_critic=2)(z) for _ in range(2)]
    assert torch.equal(*made)
    assert made[0].shape == (4, 1, 8, 8)
    assert made[0].min() >= 0
    assert made[0].max() <= 1


def test_only_the_clipped_critic_is_clipped(monkeypatch):
    """Breaks if the WGAN's weights grow, or the LWGAN's are clipped."""
    kept = {}
    for name, maker in (("clipped_critic", clipped_critic), ("lipschitz_critic", lipschitz_critic)):
        monkeypatch.setattr(
            f"tenpapers.groupsort.gan.{name}", lambda *a, n=name, m=maker, **k: kept.setdefault(n, m(*a, **k))
        )
    for lipschitz in (False, True):
        train_gan(images("digits").train.x[:40], lipschitz=lipschitz, steps=1, batch_size=8, n_critic=1, clip=0.005)
    largest = {name: max(p.abs().max().item() for p in critic.parameters()) for name, critic in kept.items()}
    assert largest["clipped_critic"] <= 0.005 < largest["lipschitz_critic"]


def test_critics_have_the_same_shape_and_only_one_has_a_bound():
    x = torch.zeros(2, 1, 8, 8)
    assert clipped_critic(1, 8)(x).shape == lipschitz_critic(1, 8)(x).shape == (2, 1)
    assert lipschitz_constant(lipschitz_critic(1, 8)) <= 1 + 1e-5
    with pytest.raises(ValueError, match="size must be a multiple of 4: got 10"):
        generator_network(1, 10)
