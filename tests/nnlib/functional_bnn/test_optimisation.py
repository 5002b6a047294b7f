"""The acquisition against entropies of truncated normals, and the beliefs that it is fed with."""

import mpmath
import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel

from nnlib.functional_bnn import (
    GaussianProcess,
    StochasticMLP,
    max_value_entropy,
    network_belief,
    posterior,
    predict,
    process_belief,
)
from tests.oracles.functional_bnn import entropy_lost_by_cutting


def test_acquisition_is_the_entropy_that_a_normal_loses_when_it_is_cut():
    mean = torch.tensor([0.0, 0.5, -2.0, 1.0], dtype=torch.float64)
    sd = torch.tensor([1.0, 0.3, 2.0, 0.5], dtype=torch.float64)
    maxima = torch.tensor([0.8, 1.5, 0.9], dtype=torch.float64)
    found = max_value_entropy(mean, sd, maxima)
    np.testing.assert_allclose(found.numpy(), entropy_lost_by_cutting(mean, sd, maxima), rtol=1e-8)


def test_acquisition_is_what_a_look_tells_about_the_side_of_a_known_maximum_by_sampling():
    """Entropy before minus after, both from histograms of draws: within their error."""
    rng = np.random.default_rng(0)
    draws = 0.2 + 0.7 * rng.standard_normal(2_000_000)
    cut = draws[draws < 0.5]
    edges = np.linspace(-4, 4, 801)

    def entropy(values):
        share, _ = np.histogram(values, edges, density=True)
        share = share[share > 0]
        return -(share * np.log(share)).sum() * (edges[1] - edges[0])

    one = torch.ones(1, dtype=torch.float64)
    found = max_value_entropy(0.2 * one, 0.7 * one, 0.5 * one).item()
    assert abs(found - (entropy(draws) - entropy(cut))) < 0.005


def test_acquisition_is_never_negative_and_vanishes_where_the_maximum_is_out_of_reach():
    mean = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    for sd in (1e-3, 0.1, 1.0):
        alpha = max_value_entropy(mean, torch.full_like(mean, sd), torch.zeros(1).double())
        assert bool(alpha.isfinite().all()) and bool((alpha >= 0).all())
        assert alpha[0] < 1e-12  # 50 below the maximum
        assert bool((alpha.diff() >= -1e-9).all())  # nearer to the maximum, or beyond it, a look tells more


@pytest.mark.parametrize("deviations", [10.0, 250.0, 299.0, 301.0, 1e4, 1e8, 1e30])
def test_acquisition_is_right_however_far_a_maximum_lies_below(deviations):
    """Against 300 digits. Breaks where γ φ/Φ and γ² cancel: at 10⁸ deviations nothing but rounding was left of them."""
    with mpmath.workdps(300):
        g = -mpmath.mpf(deviations)
        expected = float(g * mpmath.npdf(g) / mpmath.ncdf(g) / 2 - mpmath.log(mpmath.ncdf(g)))
    zero = torch.zeros(1, dtype=torch.float64)
    assert max_value_entropy(zero, zero + 1, zero - deviations).item() == pytest.approx(expected, rel=1e-11)


def test_acquisition_prefers_the_wider_of_two_beliefs_below_the_maximum():
    zero = torch.zeros(2, dtype=torch.float64)
    narrow, wide = max_value_entropy(zero, torch.tensor([0.3, 0.6]).double(), torch.ones(3).double())
    assert wide > 2 * narrow


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match="sd must be positive: the smallest is 0"):
        max_value_entropy(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.ones(1))


def test_belief_of_a_process_is_its_posterior_and_its_maxima_are_above_every_mean():
    generator, noise_sd = torch.Generator().manual_seed(0), 0.05
    kernel = MaternKernel(nu=0.5).double().requires_grad_(False)
    points = torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]
    values = GaussianProcess(kernel).sample(points, 1, generator)[0]
    x, y = points[:10], values[:10]
    belief = process_belief(kernel, x, y, points, noise_sd, samples=4000, generator=generator)
    mean, covariance = posterior(kernel, x, y, points, noise_sd)
    torch.testing.assert_close(belief.mean, mean)
    torch.testing.assert_close(belief.sd, covariance.diagonal().sqrt())
    assert (belief.mean[:10] - y).abs().max() < 3 * noise_sd
    assert bool((belief.sd[:10] < 1.5 * noise_sd).all()) and belief.sd.max() > 0.3
    assert belief.maxima.mean() > belief.mean.max()
    two = process_belief(kernel, x, y, points[-1:], noise_sd, samples=4000, generator=generator)
    torch.testing.assert_close(two.maxima.std(), two.sd[0], rtol=0.05, atol=0)  # at one candidate: draws of f itself


def test_belief_of_a_network_is_that_of_its_drawn_functions():
    network = StochasticMLP([1, 5, 1], log_sd=-1.0, dtype=torch.float64)
    points = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    belief, f = network_belief(network, points, 300, seed=4), predict(network, points, 300, seed=4)
    for found, expected in zip(belief, (f.mean(0), f.std(0), f.max(1).values), strict=True):
        torch.testing.assert_close(found, expected)
