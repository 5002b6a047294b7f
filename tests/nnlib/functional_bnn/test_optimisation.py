"""The acquisition against entropies of truncated normals, and searches of functions whose maximum is known."""

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel

from nnlib.functional_bnn.optimisation import (
    KERNELS,
    SEARCHES,
    ExactProcess,
    Landscape,
    Network,
    drawn_landscape,
    max_value_entropy,
    search,
    search_run,
)
from tests.oracles.functional_bnn import entropy_lost_by_cutting


def hill(d=1, candidates=60):
    """−|x − 0.3|² at points of a lattice: any sensible search finds the top."""
    axis = torch.linspace(-1, 1, candidates if d == 1 else 9, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    kernel = RBFKernel().double()
    kernel.lengthscale = 0.7
    return Landscape(points, -(points - 0.3).square().sum(1), kernel.requires_grad_(False), noise_sd=0.01)


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


def test_acquisition_prefers_the_wider_of_two_beliefs_below_the_maximum():
    zero = torch.zeros(2, dtype=torch.float64)
    narrow, wide = max_value_entropy(zero, torch.tensor([0.3, 0.6]).double(), torch.ones(3).double())
    assert wide > 2 * narrow


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match="must be positive: the smallest is 0"):
        max_value_entropy(torch.zeros(2), torch.tensor([1.0, 0.0]), torch.ones(1))


@pytest.mark.parametrize("method", ["exact GP", "fBNN"])
def test_search_finds_the_top_of_a_hill(method):
    regret = search(hill(), method, queries=8, seed=0)
    assert regret[-1] < 0.01 < regret[0]


def test_exact_process_finds_the_top_of_a_hill_in_three_dimensions_sooner_than_chance():
    land = hill(3)
    found = [search(land, method, queries=12, seed=1)[-1].item() for method in ("exact GP", "random search")]
    assert found[0] < 0.05 < found[1]


def test_regret_never_rises_and_starts_the_same_for_all_methods():
    land = drawn_landscape("RBF", 2, seed=3, candidates=80)
    curves = [search(land, method, queries=3, seed=3) for method in SEARCHES]
    assert len({round(curve[0].item(), 12) for curve in curves}) == 1
    for curve in curves:
        assert curve.shape == (4,) and bool((curve.diff() <= 0).all()) and bool((curve >= 0).all())


def test_exact_belief_is_the_posterior_and_its_maxima_are_above_every_mean():
    land = drawn_landscape("Matérn ½", 1, seed=0, candidates=50)
    model = ExactProcess(land, 0)
    mean, sd, maxima = model.belief(land.candidates[:10], land.values[:10], samples=2000)
    assert (mean[:10] - land.values[:10]).abs().max() < 3 * land.noise_sd
    assert bool((sd[:10] < 1.5 * land.noise_sd).all()) and sd.max() > 0.3
    assert maxima.mean() > mean.max()


def test_networks_differ_in_their_penalty_only():
    land = drawn_landscape("RBF", 1)
    one, other = Network(land, 0, True, 5), Network(land, 0, False, 5)
    assert type(one.penalty()).__name__ == "FunctionSpace" and type(other.penalty()).__name__ == "WeightSpace"
    for p, q in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("kernel", list(KERNELS))
def test_drawn_functions_have_variance_one_and_the_same_seed_draws_the_same(kernel):
    values = torch.stack([drawn_landscape(kernel, 2, seed, candidates=40).values for seed in range(200)])
    assert abs(values.square().mean().item() - 1) < 0.15
    again = drawn_landscape(kernel, 2, 5, candidates=40)
    assert torch.equal(again.values, values[5])


def test_a_run_says_the_regret_along_the_way():
    row = search_run("RBF", 1, "exact GP", queries=4, seed=0)
    assert list(row) == ["after 0", "after 2", "after 4"]
    assert row == search_run("RBF", 1, "exact GP", queries=4, seed=0)


def test_bad_searches_are_refused():
    with pytest.raises(ValueError, match="kernel must be one of RBF"):
        drawn_landscape("cosine", 1)
    with pytest.raises(ValueError, match="d must be at least 1"):
        drawn_landscape("RBF", 0)
    with pytest.raises(ValueError, match="method must be one of random search"):
        search(hill(), "grid")
    with pytest.raises(ValueError, match="1 to 60: got 3 and 58"):
        search(hill(), "random search", queries=58)
