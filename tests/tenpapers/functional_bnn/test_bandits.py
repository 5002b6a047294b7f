"""Bandits pay what they say; agents learn, explore by draws, and are the same twice."""

import numpy as np
import pytest
import torch

from nnlib.bayes import LinearGaussian
from tenpapers.functional_bnn import AGENTS, Bandit, bandit_run, play, shuttle, wheel
from tenpapers.functional_bnn.agents import FunctionalBNN, Regressions


def test_the_wheel_pays_its_prize_beyond_the_radius_and_for_one_action_a_quadrant():
    bandit = wheel(20_000, delta=0.6)
    far = bandit.contexts.norm(dim=1) > 0.6
    best = bandit.expected.argmax(1)
    assert abs(far.double().mean().item() - (1 - 0.36)) < 0.02
    assert bool((best[~far] == 0).all()) and bool((bandit.expected.max(1).values[far] == 50).all())
    quadrant = 1 + (bandit.contexts[:, 0] < 0).long() + 2 * (bandit.contexts[:, 1] < 0).long()
    assert bool((best[far] == quadrant[far]).all())


def test_shuttle_pays_one_for_the_right_class_only():
    bandit = shuttle(500)
    assert bandit.contexts.shape == (500, 9)
    assert bool((bandit.rewards.sum(1) == 1).all())


def linear_bandit(rounds=400):
    """Two actions whose rewards are opposite linear functions of the context."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((rounds, 2)))
    expected = torch.stack([x[:, 0], -x[:, 0]], 1)
    return Bandit(x, expected + 0.1 * torch.from_numpy(rng.standard_normal((rounds, 2))), expected, "drawn")


# Not Bayes by backprop: the KL of its 3,000 weights, over so few rounds, outweighs the data.
@pytest.mark.parametrize("agent", [name for name in AGENTS if name not in ("uniform", "Bayes by backprop")])
def test_every_agent_loses_far_less_than_random_actions(agent):
    bandit = linear_bandit()
    assert play(bandit, agent)[-1] < 0.4 * play(bandit, "uniform")[-1]


def test_regret_counts_expected_rewards_and_never_falls():
    bandit = linear_bandit(100)
    regret = play(bandit, "uniform", seed=1)
    assert (np.diff(regret) >= 0).all()
    best = bandit.expected.max(1).values.sum().item()
    assert 0 < regret[-1] < 2 * best


def test_regressions_have_the_mean_of_bayesian_linear_regression():
    """With noise variance s² the prior N(0, 4 s²) has its mean whatever s² is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(30, generator=generator, dtype=torch.float64)
    mean, root, a, b = Regressions(x, torch.zeros(30).long(), y, 1).posteriors[0]
    exact = LinearGaussian(torch.cat([x, torch.ones(30, 1).double()], 1), y, 1.0, 4.0)
    np.testing.assert_allclose(mean, exact.mean.numpy(), rtol=1e-9)
    np.testing.assert_allclose(root @ root.T, exact.covariance.numpy(), rtol=1e-8)
    assert a == 6 + 15 and b > 6


def test_prior_of_the_functional_agent_correlates_actions_and_covers_the_contexts():
    agent = FunctionalBNN(2, 3, seed=0)
    x = agent.joined(torch.randn(50, 2, dtype=torch.float64), torch.arange(50) % 3)
    penalty = agent.penalty(x)
    same_context = agent.joined(x[:1, :2].expand(3, -1), torch.arange(3))
    gram = penalty.prior.kernel(same_context).to_dense()
    torch.testing.assert_close(gram[0, 1].item(), float(np.exp(-1.0)), rtol=1e-6, atol=1e-6)
    assert bool((penalty.low <= x.min(0).values).all() and (penalty.high >= x.max(0).values).all())


def test_the_same_seed_plays_the_same_game():
    assert bandit_run("wheel", "linear", 100, 3) == bandit_run("wheel", "linear", 100, 3)


def test_an_unknown_agent_and_an_impossible_wheel_are_refused():
    with pytest.raises(ValueError, match="agent must be one of uniform"):
        play(linear_bandit(10), "oracle")
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        wheel(10, delta=1.0)
