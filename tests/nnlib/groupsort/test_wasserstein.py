"""Critics stay below the exact distance of the same points; the exact distance is what it is said to be."""

import pandas as pd
import pytest
import torch

from nnlib.groupsort import (
    Cones,
    LipschitzMLP,
    absolute_value_run,
    cone_run,
    relu_ceiling,
    train_critic,
)
from nnlib.lipschitz import dual_value, exact_distance


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("dim", "centres"), [(1, (0.0,)), (2, (-2.0, 0.0, 2.0)), (16, (0.0,)), (128, (0.0,))])
def test_cones_are_at_distance_1_and_the_negative_distance_to_a_centre_is_the_best_critic(dim, centres):
    p, q = Cones(dim, centres, torch.float64)(60, torch.Generator().manual_seed(0))
    assert exact_distance(p, q) == pytest.approx(1.0, rel=1e-9)
    c = torch.zeros(len(centres), dim, dtype=torch.float64)
    c[:, 0] = torch.tensor(centres)
    value = dual_value(lambda x: -torch.cdist(x, c).amin(1, keepdim=True), p, q)
    assert value.item() == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("activation", ["MaxMin", "Abs", "FullSort"])
def test_one_hidden_layer_that_keeps_gradients_makes_the_absolute_value(activation):
    assert absolute_value_run(activation, width=32, steps=300)["estimate"] == pytest.approx(1, abs=5e-3)


def test_relu_with_one_hidden_layer_stops_at_one_half():
    found = absolute_value_run("ReLU", dtype=torch.float64)["estimate"]
    assert 0.49 < found <= 0.5 + 1e-9


def test_relu_with_two_hidden_layers_stops_at_the_observed_ceiling():
    found = absolute_value_run("ReLU", 2, width=6, steps=500, dtype=torch.float64)["estimate"]
    assert relu_ceiling(2) - 0.01 < found <= relu_ceiling(2) + 1e-6


@pytest.mark.parametrize("constraint", ["Björck", "mixed"])
def test_a_critic_never_exceeds_the_exact_distance_of_the_same_points(constraint):
    for seed in range(2):
        found = cone_run(2, "MaxMin", constraint=constraint, width=16, hidden=2, steps=60, seed=seed, n_test=90)
        assert 0.1 < found["estimate"] <= found["exact"] * found["constant"] * (1 + 1e-5)


def test_in_16_dimensions_sorting_everything_beats_relu():
    estimates = {
        name: cone_run(16, name, width=32, hidden=2, steps=150, n_test=300)["estimate"] for name in ("ReLU", "FullSort")
    }
    assert estimates["FullSort"] > 0.95
    assert estimates["ReLU"] < 0.75


def test_an_unconstrained_critic_exceeds_the_distance():
    # the negative control: without its constraint, the number is no bound
    class Free(torch.nn.Linear):
        pass

    critic = torch.nn.Sequential(Free(2, 16), torch.nn.ReLU(), Free(16, 1))
    train_critic(critic, Cones(2), steps=200, batch_size=32, lr=0.05)
    p, q = Cones(2)(90, torch.Generator().manual_seed(1))
    assert dual_value(critic, p, q) > 2 * exact_distance(p, q)


def test_training_is_the_same_again_and_watches_where_it_is_told_to():
    frames = []
    for _ in range(2):
        critic = LipschitzMLP([2, 8, 1], seed=3)
        watched = {"watch": (5, 10), "watched": lambda critic: {"at zero": critic(torch.zeros(1, 2)).item()}}
        frames.append(pd.DataFrame(train_critic(critic, Cones(2), steps=10, batch_size=8, seed=1, clip=0.1, **watched)))
    assert frames[0].equals(frames[1])
    assert frames[0]["at zero"].notna().to_list() == [step in (5, 10) for step in range(1, 11)]


def test_an_estimate_that_is_not_finite_stops_the_training():
    critic = torch.nn.Linear(2, 1)
    with torch.no_grad():
        critic.weight.fill_(torch.inf)
    with pytest.raises(ArithmeticError, match="at step 1"):
        train_critic(critic, Cones(2), steps=3, batch_size=4)
