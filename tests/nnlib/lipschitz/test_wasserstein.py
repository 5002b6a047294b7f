"""The exact distance between two samples is what it is said to be, against every permutation and every critic."""

import math

import pytest
import torch
from torch import nn

from nnlib.lipschitz import dual_value, exact_distance
from tests.oracles.lipschitz import best_critic, cheapest_permutation


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_the_exact_distance_is_the_cheapest_assignment_and_the_best_critic(seed):
    p, q = draw(6, 2, seed=seed), draw(6, 2, seed=seed + 10) + 1
    assert exact_distance(p, q) == pytest.approx(cheapest_permutation(p, q), rel=1e-12)
    assert exact_distance(p, q) == pytest.approx(best_critic(p, q), rel=1e-7)


def test_shifting_a_sample_costs_the_shift():
    p = draw(50, 3)
    assert exact_distance(p, p + torch.tensor([3.0, 4.0, 0.0])) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="same shape"):
        exact_distance(p, p[:10])


def test_exact_distance_of_a_shift_is_its_length():
    p = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert exact_distance(p, p[torch.arange(19, -1, -1)] + 10) == pytest.approx(10 * math.sqrt(9))
    with pytest.raises(ValueError, match="same shape"):
        exact_distance(p, p[:5])


@pytest.mark.parametrize(
    ("critic", "p", "q", "message"),
    [
        (nn.Linear(2, 1), torch.ones(3, 4), torch.ones(3, 2), "p must be what the model takes: .*shape"),
        (nn.Linear(2, 1), torch.ones(3, 2), torch.ones(3, 4), "q must be what the model takes: .*shape"),
        (nn.Linear(2, 1), torch.ones(3, 2).double(), torch.ones(3, 2), "p must be what the model takes: .*dtype"),
        (nn.Linear(2, 1), torch.ones(0, 2), torch.ones(3, 2), "critic must give one number for each of at least one"),
        (nn.Linear(2, 2), torch.ones(3, 2), torch.ones(3, 2), r"critic must give one number .* got \(3, 2\)"),
        (
            nn.Flatten(0),
            torch.ones(3, 2),
            torch.ones(3, 2),
            r"model must give a row for each of the 3 points of p: got",
        ),
        (lambda x: None, torch.ones(3, 2), torch.ones(3, 2), "model must give a row for each of the 3 points of p"),
    ],
)
def test_what_a_critic_cant_take_is_refused_by_name(critic, p, q, message):
    """The mean of no value is NaN, and the mean over several outputs is of another function."""
    with pytest.raises(ValueError, match=message):
        dual_value(critic, p, q)


@pytest.mark.parametrize("argument", ["critic", "p", "q"])
def test_a_dual_value_is_of_a_function_and_tensors(argument):
    right = {"critic": nn.Linear(2, 1), "p": torch.ones(3, 2), "q": torch.ones(3, 2)}
    with pytest.raises(TypeError, match=f"^{argument} must be"):
        dual_value(**right | {argument: [1.0]})
