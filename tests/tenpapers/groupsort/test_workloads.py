"""What is trained is what the chapter says: distributions at distance 1, the margin that certifies, the schedule."""

import math

import pytest
import torch

from nnlib.lipschitz import certified_radius, dual_value, exact_distance
from tenpapers.data import noted
from tenpapers.groupsort import workloads
from tenpapers.groupsort.workloads import Cones, absolute_value_critic, images, margin, three_points, train_classifier


@pytest.mark.parametrize(("dim", "centres"), [(1, (0.0,)), (2, (-2.0, 0.0, 2.0)), (16, (0.0,)), (128, (0.0,))])
def test_cones_are_at_distance_1_and_the_negative_distance_to_a_centre_is_the_best_critic(dim, centres):
    p, q = Cones(dim, centres, torch.float64)(60, torch.Generator().manual_seed(0))
    assert exact_distance(p, q) == pytest.approx(1.0, rel=1e-9)
    c = torch.zeros(len(centres), dim, dtype=torch.float64)
    c[:, 0] = torch.tensor(centres)
    value = dual_value(lambda x: -torch.cdist(x, c).amin(1, keepdim=True), p, q)
    assert value.item() == pytest.approx(1.0, rel=1e-9)


def test_the_three_points_are_at_distance_1_and_make_the_critic_a_v():
    critic = absolute_value_critic("MaxMin", width=8, steps=200, lr=0.03, dtype=torch.float64)
    p, q = three_points(critic)
    assert exact_distance(p.expand(2, 1), q) == 1
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
    with torch.no_grad():
        torch.testing.assert_close(critic(p) - critic(x), x.abs(), rtol=0, atol=0.02)


def test_the_margin_is_what_certifies_the_radius():
    # logits at exactly the margin have exactly the radius
    for constraint, q in (("Björck", 2), ("rows", math.inf)):
        logits = torch.tensor([[margin(constraint, 0.3, constant=5.0), 0.0]], dtype=torch.float64)
        assert certified_radius(logits, torch.tensor([0]), 5.0, q=q).item() == pytest.approx(0.3)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="constraint must be one of"):
        train_classifier(images("digits"), constraint="orthogonal")
    with pytest.raises(ValueError, match="epsilon asks for a margin"):
        train_classifier(images("digits"), constraint="none", epsilon=0.5)


def test_a_classifier_learns_slower_in_its_last_quarter(monkeypatch):
    """Breaks without the schedule."""
    rates = []

    def spied(model, data, optimizer, **options):
        optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
        return fit(model, data, optimizer, **options)

    fit = workloads.fit
    monkeypatch.setattr(workloads, "fit", spied)
    train_classifier(images("digits"), hidden=(8,), epochs=4, batch_size=350, lr=0.02)
    assert rates == pytest.approx([0.02] * 12 + [0.002] * 4)


def test_dropout_too_depends_on_the_seed_and_nothing_else():
    def weights(seed):
        options = {"epsilon": None, "hidden": (8,), "epochs": 1, "batch_size": 350}
        return train_classifier(images("digits"), "ReLU", "dropout", seed=seed, **options)[-1].weight

    torch.manual_seed(1)
    one = weights(0)
    torch.manual_seed(2)
    assert torch.equal(one, weights(0)) and not torch.equal(one, weights(1))


def test_data_that_are_remembered_say_again_what_was_loaded():
    for _ in range(2):
        with noted() as heard:
            images("mnist")
        assert len(heard) == 1 and "package's" in heard[0]
