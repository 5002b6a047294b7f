"""Hamiltonian Monte Carlo draws from its density, and the small network's references are what they are called."""

import pytest
import torch

from tenpapers.noisy_ekfac import marginals
from tenpapers.noisy_ekfac.hmc import disagreement, hamiltonian


def draws_of(log_density, d=1, chains=50, scale=1.0, **options):
    start = torch.zeros(chains, d, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    options = {"samples": 400, "warm_up": 50, "generator": g} | options
    return hamiltonian(log_density, start, scale * torch.eye(d, dtype=torch.float64), **options)


def test_a_gaussian_has_its_covariance():
    """Four standard errors of 20,000 draws. Breaks if the velocity is not drawn anew, or the metric is not a root."""
    covariance = torch.tensor([[2.0, 1.0], [1.0, 1.0]]).double()
    precision = covariance.inverse()
    found = draws_of(lambda w: -((w @ precision) * w).sum(1) / 2, d=2)
    torch.testing.assert_close(found.flatten(0, 1).T.cov(), covariance, rtol=0, atol=0.1)
    assert disagreement(found).max() < 1.02


def test_steps_that_are_far_too_long_are_corrected_by_rejection():
    """E w^2 under exp(-w^4) is Gamma(3/4) / Gamma(1/4) = .338. Breaks if every move is accepted: .41."""
    found = draws_of(lambda w: -w.pow(4).sum(1), step=0.9, leaps=2, samples=1000)
    assert found.square().mean().item() == pytest.approx(0.338, abs=0.01)


def test_chains_in_two_places_are_found_to_disagree():
    apart = torch.randn(100, 4, 1, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 0, 0, 3])[:, None]
    assert disagreement(apart) > 1.3


def test_the_statistics_of_a_layer_are_the_squares_of_the_gradients_of_the_output():
    """By autograd. Breaks if the tanh's slope is forgotten, or the noise."""
    w, x, _ = marginals.problem(0, n=6)
    gradients = torch.autograd.functional.jacobian(lambda v: marginals.network(v, x)[0], w) / marginals.NOISE
    rows = marginals.statistics(w, x)
    found = [torch.einsum("bo,bi->boi", r.ds, r.x).flatten(1) for r in rows]
    torch.testing.assert_close(torch.cat(found, 1), gradients)
    eye = torch.eye(61, dtype=torch.float64)
    torch.testing.assert_close(marginals.covariance(gradients), (gradients.T @ gradients + eye).inverse())


def test_the_mode_has_no_slope_and_lies_above_the_weights_that_made_the_targets():
    w, x, y = marginals.problem(1)
    best = marginals.mode(w, x, y).requires_grad_()
    top = marginals.log_posterior(best, x, y)
    (slope,) = torch.autograd.grad(top, best)
    assert slope.abs().max() < 1e-3 and top > marginals.log_posterior(w, x, y)


def test_the_references_agree_where_the_mode_is_sharp():
    """Breaks if a reference is a variance and not a deviation, or weights of the two layers are mixed up."""
    rows = marginals.deviations(3, chains=4, warm_up=50, samples=150)
    assert [row["layer"] for row in rows] == [0] * 55 + [1] * 6 and [row["weight"] for row in rows] == list(range(61))
    ratios = torch.tensor([row["fisher"] / row["hmc"] for row in rows]).log()
    assert ratios.abs().mean() < 0.1  # the mode is sharp: HMC and the inverse Fisher matrix agree
    assert all(row["block"] < row["fisher"] * (1 + 1e-9) for row in rows)  # the rest of the network is held fixed
    assert all(row["Noisy K-FAC"] < row["Noisy K-FAC, exact damping"] for row in rows)
