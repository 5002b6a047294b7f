"""Agents learn, explore by draws, and believe what they should."""

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel

from nnlib.bayes import LinearGaussian
from nnlib.functional_bnn import posterior
from tenpapers.functional_bnn.agents import AGENTS, ExactSearcher, FunctionalBNN, NetworkSearcher, Regressions
from tenpapers.functional_bnn.measure import play
from tenpapers.functional_bnn.workloads import Bandit, Landscape, drawn_landscape


def linear_bandit(rounds=400):
    """Two actions whose rewards are opposite linear functions of the context."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((rounds, 2)))
    expected = torch.stack([x[:, 0], -x[:, 0]], 1)
    return Bandit(x, expected + 0.1 * torch.from_numpy(rng.standard_normal((rounds, 2))), expected)


# Not Bayes by backprop: the KL of its 3,000 weights, over so few rounds, outweighs the data.
@pytest.mark.parametrize("agent", [name for name in AGENTS if name not in ("uniform", "Bayes by backprop")])
def test_every_agent_loses_far_less_than_random_actions(agent):
    bandit = linear_bandit()
    assert play(bandit, agent)[-1] < 0.4 * play(bandit, "uniform")[-1]


def test_regressions_have_the_mean_of_bayesian_linear_regression_and_draw_from_student_t():
    """With noise variance s² the prior N(0, 4 s²) has its mean whatever s² is; s² is drawn from an inverse Gamma."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(30, generator=generator, dtype=torch.float64)
    belief = Regressions(x, torch.zeros(30).long(), y, 1)
    ((mean, root, a, b),) = belief.posteriors
    features = torch.cat([x, torch.ones(30, 1).double()], 1)
    exact = LinearGaussian(features, y, 1.0, 4.0)
    torch.testing.assert_close(mean, exact.mean, rtol=1e-9, atol=0)
    torch.testing.assert_close(root @ root.T, exact.covariance, rtol=1e-8, atol=1e-12)
    # b: what is left of y'y once the mean has explained its part, the prior's pull included
    left = (y - features @ mean).square().sum() + mean.square().sum() / 4
    assert a == 6 + 15
    torch.testing.assert_close(b, 6 + 0.5 * left.item(), rtol=1e-9, atol=0)


def test_the_better_of_two_regressions_is_drawn_as_often_as_it_is_better():
    """Two actions, seen at one context each: the share of draws, against draws of the two posteriors themselves."""
    context = torch.ones(40, 1, dtype=torch.float64)
    actions = torch.arange(40) % 2
    rng = np.random.default_rng(0)
    rewards = torch.from_numpy(rng.standard_normal(40)) + 0.3 * actions
    belief = Regressions(context, actions, rewards, 2)
    chosen = np.mean([belief.draw(context[0], rng) for _ in range(4000)])
    values = []
    for mean, root, a, b in belief.posteriors:
        spread = (root.T @ torch.ones(2).double()).norm().item()
        values.append(mean.sum().item() + (b / a) ** 0.5 * spread * rng.standard_t(2 * a, 40_000))
    assert abs(chosen - np.mean(values[1] > values[0])) < 0.03


def test_prior_of_the_functional_agent_correlates_actions_and_covers_the_contexts():
    agent = FunctionalBNN(2, 3, seed=0)
    x = agent.joined(torch.randn(50, 2, dtype=torch.float64), torch.arange(50) % 3)
    penalty = agent.penalty(x)
    same_context = agent.joined(x[:1, :2].expand(3, -1), torch.arange(3))
    gram = penalty.prior.kernel(same_context).to_dense()
    torch.testing.assert_close(gram[0, 1].item(), float(np.exp(-1.0)), rtol=1e-6, atol=1e-6)
    half = 0.5 * (x.max(0).values - x.min(0).values)[:2]
    torch.testing.assert_close(penalty.low[:2], x.min(0).values[:2] - half - 1e-3)
    torch.testing.assert_close(penalty.high[:2], x.max(0).values[:2] + half + 1e-3)
    assert penalty.kl_scale == "data"


def test_the_exact_searcher_believes_the_posterior():
    kernel = RBFKernel().double().requires_grad_(False)
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    land = Landscape(x, torch.sin(3 * x[:, 0]), kernel, noise_sd=0.1)
    mean, covariance = posterior(kernel, x[:3], land.values[:3], x, 0.1)
    belief = ExactSearcher(land, 0).belief(x[:3], land.values[:3])
    torch.testing.assert_close(belief.mean, mean)
    torch.testing.assert_close(belief.sd, covariance.diagonal().sqrt())


def test_networks_that_search_differ_in_their_penalty_only():
    land = drawn_landscape("RBF", 1)
    one, other = NetworkSearcher(land, 0, True, 5), NetworkSearcher(land, 0, False, 5)
    assert type(one.penalty()).__name__ == "FunctionSpace" and type(other.penalty()).__name__ == "WeightSpace"
    for p, q in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(p, q)
