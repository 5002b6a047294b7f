"""The exact distance between two samples is what it is said to be, against every permutation and every critic."""

import math

import pytest
import torch

from nnlib.lipschitz import exact_distance
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
