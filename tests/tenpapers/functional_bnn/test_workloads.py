"""Bandits pay what they say, drawn functions are what they are drawn from, priors are fitted to what they are told."""

import pytest
import torch

from tenpapers.data import noted
from tenpapers.functional_bnn.workloads import (
    SEARCH_KERNELS,
    TOYS,
    drawn_landscape,
    neural_prior,
    ornstein_uhlenbeck,
    placed,
    prepared,
    series_prior,
    shuttle,
    sine,
    steps,
    table,
    wheel,
)


def test_the_wheel_pays_its_prize_beyond_the_radius_and_for_one_action_a_quadrant():
    bandit = wheel(20_000, delta=0.6)
    far = bandit.contexts.norm(dim=1) > 0.6
    best = bandit.expected.argmax(1)
    assert abs(far.double().mean().item() - (1 - 0.36)) < 0.02
    assert bool((best[~far] == 0).all()) and bool((bandit.expected.max(1).values[far] == 50).all())
    quadrant = 1 + (bandit.contexts[:, 0] < 0).long() + 2 * (bandit.contexts[:, 1] < 0).long()
    assert bool((best[far] == quadrant[far]).all())
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        wheel(10, delta=1.0)


def test_shuttle_pays_one_for_the_right_class_only():
    bandit = shuttle(500)
    assert bandit.contexts.shape == (500, 9)
    assert bool((bandit.rewards.sum(1) == 1).all())


@pytest.mark.parametrize("kernel", list(SEARCH_KERNELS))
def test_drawn_functions_have_variance_one_and_the_same_seed_draws_the_same(kernel):
    values = torch.stack([drawn_landscape(kernel, 2, seed, candidates=40).values for seed in range(200)])
    assert abs(values.square().mean().item() - 1) < 0.15
    again = drawn_landscape(kernel, 2, 5, candidates=40)
    assert torch.equal(again.values, values[5])


def test_bad_landscapes_are_refused():
    with pytest.raises(ValueError, match="kernel must be one of RBF"):
        drawn_landscape("cosine", 1)
    with pytest.raises(ValueError, match="d must be at least 1"):
        drawn_landscape("RBF", 0)


@pytest.mark.parametrize("toy", list(TOYS))
def test_toys_are_standardised_and_have_no_data_outside(toy):
    problem = TOYS[toy]()
    torch.testing.assert_close(problem.x.mean(), torch.zeros(()).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(problem.y.var(correction=0), torch.ones(()).double())
    away = problem.grid[problem.outside, 0]
    inside = (away > problem.x.min()) & (away < problem.x.max())
    assert len(away) > 40 and not bool(inside.any())


def test_targets_of_the_steps_are_their_truth_with_noise():
    problem = steps()
    nearest = (problem.x - problem.grid[:, 0]).abs().argmin(1)
    near = (problem.y - problem.truth[nearest]).abs() < 4 * problem.noise_sd
    assert near.double().mean() > 0.9  # all but those next to a jump
    assert bool(((problem.x < 0.2) | (problem.x > 0.8)).all())


def test_the_twin_has_the_covariance_of_the_piecewise_constant_prior():
    x = torch.tensor([[0.0], [0.2], [0.7]], dtype=torch.float64)
    expected = torch.exp(-3 * (x - x.mT).abs()) / 12
    torch.testing.assert_close(ornstein_uhlenbeck()(x).to_dense(), expected, rtol=1e-6, atol=1e-9)


def test_a_series_is_cut_in_time_and_one_year_is_one_year():
    series = prepared("airline")
    assert series.x_test.min() > series.x.max() and len(series.x_test) == 36
    torch.testing.assert_close(float((series.x[12] - series.x[0]).item()), series.year, rtol=1e-4, atol=0)
    assert len(prepared("airline", 2).x) == len(series.x) // 2


def test_the_neural_prior_describes_diabetes_better_than_noise_alone():
    """Targets have variance 1: the fitted noise must be below it, and the kernel needs no gradient."""
    evidence = neural_prior("diabetes", 0, 40)
    assert 0.3 < evidence.noise_sd < 0.95
    assert not any(p.requires_grad for p in evidence.kernel.parameters())


def test_what_is_remembered_still_says_what_was_loaded():
    for remembered, arguments in ((series_prior, ("airline", 4)), (table, ("diabetes", 0))):
        told = []
        for _ in range(2):
            with noted() as sources:
                remembered(*arguments)
            told.append(sources)
        assert told[0] == told[1] and len(told[0]) == 1


def test_a_problem_is_moved_whole():
    moved = placed(sine(), "meta")
    assert {t.device.type for t in vars(moved).values() if isinstance(t, torch.Tensor)} == {"meta"}
    assert moved.noise_sd == sine().noise_sd
