"""A critic climbs to the distance from below, and is trained the same way twice."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from nnlib.groupsort import LipschitzMLP, train_critic
from nnlib.lipschitz import dual_value, exact_distance, lipschitz_constant


def circle(n, generator):
    """The centre and points of the unit circle, at distance 1."""
    angle = 2 * torch.pi * torch.rand(n, 1, generator=generator)
    return torch.zeros(n, 2), torch.cat([angle.cos(), angle.sin()], 1)


@pytest.mark.parametrize("constraint", ["Björck", "rows after step"])
def test_a_critic_climbs_towards_the_distance_and_never_exceeds_it(constraint):
    critic = LipschitzMLP([2, 16, 16, 1], "MaxMin", constraint)
    history = train_critic(critic, circle, steps=80, batch_size=32, lr=0.03)
    assert [row["step"] for row in history] == list(range(1, 81))
    p, q = circle(90, torch.Generator().manual_seed(1))
    value = dual_value(critic, p, q).item()
    assert lipschitz_constant(critic) <= 1 + 1e-5
    # What is 1-Lipschitz in the inf-norm is so in the 2-norm, which is larger.
    assert 0.4 < value <= exact_distance(p, q) * lipschitz_constant(critic) * (1 + 1e-5)
    assert history[-1]["estimate"] > history[0]["estimate"] + 0.3
    assert not critic.training


def test_an_unconstrained_critic_exceeds_the_distance():
    # the negative control: without its constraint, the number is no bound
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    train_critic(critic, circle, steps=200, batch_size=32, lr=0.05)
    p, q = circle(90, torch.Generator().manual_seed(1))
    assert dual_value(critic, p, q) > 2 * exact_distance(p, q)


def test_training_is_the_same_again_and_watches_where_it_is_told_to():
    found = []
    for _ in range(2):
        critic = LipschitzMLP([2, 8, 1], seed=3)
        watched = {"watch": (5, 10), "watched": lambda critic: {"at zero": critic(torch.zeros(1, 2)).item()}}
        found.append(train_critic(critic, circle, steps=10, batch_size=8, seed=1, clip=0.1, **watched))
    assert found[0] == found[1]
    assert [row["step"] for row in found[0] if "at zero" in row] == [5, 10]


def test_the_learning_rate_falls_to_zero_along_a_cosine():
    """Breaks without the schedule: the last steps would be as long as the first."""
    critic, at = nn.Linear(2, 1, bias=False), []
    watch = {"watch": range(1, 101), "watched": lambda critic: at.append(critic.weight.clone()) or {}}
    train_critic(critic, circle, steps=100, batch_size=1000, lr=0.1, **watch)
    moved = [(b - a).abs().max().item() for a, b in pairwise(at)]
    assert max(moved[-5:]) < 1e-3 < max(moved[:5])


def test_an_estimate_that_is_not_finite_stops_the_training():
    critic = nn.Linear(2, 1)
    with torch.no_grad():
        critic.weight.fill_(torch.inf)
    with pytest.raises(ArithmeticError, match="at step 1"):
        train_critic(critic, circle, steps=3, batch_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1: got 0"),
        ({"steps": 2.0}, "steps must be int: got 2.0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1: got 0"),
        ({"lr": 0.0}, "lr must be a number in"),
        ({"lr": torch.nan}, "lr must be a number in"),
        ({"clip": -1.0}, "clip must be a number in"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"watch": 3}, "watch must be Container: got 3"),
        ({"watched": "a"}, "watched must be Callable or None: got 'a'"),
        ({"critic": nn.Flatten()}, "critic must have parameters to train: Flatten has none"),
        ({"critic": nn.Linear(3, 1)}, "p must be what the model takes"),
        ({"critic": nn.Linear(2, 2)}, "critic must give one number"),
        ({"critic": None}, "critic must be Module: got None"),
        ({"sample": circle(3, None)}, "sample must be Callable"),
        ({"sample": lambda n, generator: torch.ones(n, 2)}, "sample must return two tensors"),
        ({"sample": lambda n, generator: (torch.ones(n, 2),)}, "sample must return two tensors"),
        ({"sample": lambda n, generator: ([1.0], [2.0])}, "sample must return two tensors"),
        ({"sample": lambda n, generator: None}, "sample must return two tensors"),
        ({"sample": lambda n, generator: 2 * (torch.full((n, 2), torch.nan),)}, "loss is nan at step 1"),
    ],
)
def test_what_cant_be_trained_is_refused_by_name(options, message):
    right = {"critic": nn.Linear(2, 1), "sample": circle, "steps": 2, "batch_size": 4}
    with pytest.raises((TypeError, ValueError, ArithmeticError), match=message):
        train_critic(**right | options)
