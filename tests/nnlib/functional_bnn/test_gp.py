"""Exact Gaussian processes against gpytorch's own, and the priors that can only be sampled against their moments."""

import math

import gpytorch
import pytest
import torch
from gpytorch.kernels import LinearKernel, PeriodicKernel, RBFKernel, ScaleKernel

from nnlib.bayes import LinearGaussian
from nnlib.functional_bnn import (
    GaussianProcess,
    PiecewiseConstant,
    PiecewiseLinear,
    fit_evidence,
    log_evidence,
    posterior,
)
from nnlib.functional_bnn.gp import gram, marginal_draws

KERNELS = {
    "RBF": lambda: ScaleKernel(RBFKernel()),
    "periodic": lambda: ScaleKernel(PeriodicKernel()),
    "linear + RBF": lambda: LinearKernel() + ScaleKernel(RBFKernel()),
    "ARD": lambda: ScaleKernel(RBFKernel(ard_num_dims=2)),
}


def problem(d=1, n=12):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, torch.sin(3 * x[:, 0]) + 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)


class Peer(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood, kernel):
        super().__init__(x, y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


@pytest.mark.parametrize("name", list(KERNELS))
def test_evidence_and_posterior_are_those_of_gpytorch(name):
    x, y = problem(2 if name == "ARD" else 1)
    kernel = KERNELS[name]().double()
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = 0.04
    peer = Peer(x, y, likelihood, kernel)
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, peer)
    peer.train()
    ours = log_evidence(kernel, x, y, 0.2)
    torch.testing.assert_close(ours, mll(peer(x), y) * len(y), rtol=1e-5, atol=1e-5)
    peer.eval()
    new = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None].expand(7, x.shape[1])
    with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
        theirs = peer(new)
        mean, covariance = posterior(kernel, x, y, new, 0.2)
        torch.testing.assert_close(mean, theirs.mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(covariance, theirs.covariance_matrix, rtol=1e-4, atol=1e-4)


def test_linear_kernel_is_bayesian_linear_regression():
    x, y = problem(3)
    kernel = LinearKernel().double()
    kernel.variance = 2.0
    model = LinearGaussian(x, y, 0.25, 2.0)
    torch.testing.assert_close(log_evidence(kernel, x, y, 0.5), model.log_evidence(), rtol=1e-6, atol=1e-6)
    mean, covariance = posterior(kernel, x, y, x[:4], 0.5)
    expected_mean, expected_variance = model.predict(x[:4])
    torch.testing.assert_close(mean, expected_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(covariance.diagonal() + 0.25, expected_variance, rtol=1e-6, atol=1e-6)


def test_restarts_find_the_period_that_one_start_misses():
    # Not on a grid: every frequency has aliases there that fit as well.
    x = 6 * torch.rand(30, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.sin(2 * math.pi * x[:, 0] / 1.3)
    kernel = ScaleKernel(PeriodicKernel()).double()
    kernel.base_kernel.period_length = 0.45
    one = fit_evidence(kernel, x, y, 0.1, restarts=1)
    many = fit_evidence(kernel, x, y, 0.1, restarts=8)
    assert many.log_evidence > one.log_evidence + 5
    ratio = many.kernel.base_kernel.period_length.item() / 1.3
    assert abs(ratio - round(ratio)) < 0.01 and round(ratio) >= 1


def test_fitted_prior_is_frozen_and_the_given_kernel_is_not_changed():
    x, y = problem()
    kernel = KERNELS["RBF"]().double()
    before = [p.clone() for p in kernel.parameters()]
    found = fit_evidence(kernel, x, y, 0.3, learn_noise=True, restarts=2)
    assert not any(p.requires_grad for p in found.kernel.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, kernel.parameters(), strict=True))
    assert found.log_evidence > log_evidence(kernel, x, y, 0.3).item()
    torch.testing.assert_close(log_evidence(found.kernel, x, y, found.noise_sd).item(), found.log_evidence)


def test_no_start_and_no_evidence_are_refused():
    x, y = problem()
    with pytest.raises(ValueError, match="restarts must be a whole number"):
        fit_evidence(KERNELS["RBF"]().double(), x, y, 0.1, restarts=0)
    with pytest.raises(ValueError, match="y must hold finite numbers"):
        fit_evidence(KERNELS["RBF"]().double(), x, y * math.nan, 0.1, restarts=1)


def test_density_of_the_gaussian_process_prior_is_the_multivariate_normals():
    x = torch.linspace(0, 2, 5, dtype=torch.float64)[:, None]
    prior = GaussianProcess(KERNELS["RBF"]().double().requires_grad_(False))
    f = prior.sample(x, 4, torch.Generator().manual_seed(0))
    matrix = gram(prior.kernel, x) + 0.01 * torch.eye(5).double()
    expected = torch.distributions.MultivariateNormal(torch.zeros(5).double(), matrix).log_prob(f)
    torch.testing.assert_close(prior.log_density(f, x, 0.1), expected, rtol=1e-5, atol=1e-5)


def test_samples_of_the_gaussian_process_have_its_covariance():
    x = torch.linspace(0, 2, 4, dtype=torch.float64)[:, None]
    prior = GaussianProcess(KERNELS["RBF"]().double().requires_grad_(False))
    f = prior.sample(x, 40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(f.mT @ f / len(f), gram(prior.kernel, x), rtol=0, atol=0.02)


def test_marginal_draws_have_the_mean_and_variance_of_each_point_and_a_rounded_variance_is_zero():
    mean, variance = torch.tensor([1.0, -2.0, 5.0]).double(), torch.tensor([4.0, 0.25, -1e-17]).double()
    f = marginal_draws(mean, variance, 40_000)
    torch.testing.assert_close(f.mean(0), mean, rtol=0, atol=0.04)
    torch.testing.assert_close(f.var(0), variance.clamp_min(0), rtol=0.03, atol=0)
    assert abs(torch.corrcoef(f[:, :2].T)[0, 1]) < 0.02 and torch.equal(f, marginal_draws(mean, variance, 40_000))


def test_piecewise_constant_prior_has_the_covariance_of_an_ornstein_uhlenbeck_process():
    """Mean ½ and covariance e^{−3|x − x'|}/12: with probability e^{−3h} no jump lies between two points."""
    x = torch.tensor([[0.0], [0.2], [0.5], [1.0]], dtype=torch.float64)
    f = PiecewiseConstant(3.0).sample(x, 60_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(f.mean(0), torch.full((4,), 0.5).double(), rtol=0, atol=0.005)
    torch.testing.assert_close(torch.cov(f.mT), torch.exp(-3 * (x - x.mT).abs()) / 12, rtol=0, atol=0.002)
    torch.testing.assert_close((f[:, 1] == f[:, 2]).double().mean().item(), math.exp(-0.9), rtol=0, atol=0.01)


def test_piecewise_linear_prior_is_continuous_linear_without_knots_and_uniform_at_the_ends():
    x = torch.linspace(0, 1, 401, dtype=torch.float64)[:, None]
    f = PiecewiseLinear(3.0).sample(x, 4000, torch.Generator().manual_seed(0))
    assert f.min() >= 0 and f.max() <= 1
    bends = (f.diff(n=2, dim=1).abs() > 1e-9).sum(1)
    straight = (bends == 0).double().mean().item()
    assert abs(straight - math.exp(-3)) < 0.02  # the share without any knot
    for end in (0, -1):
        assert abs(f[:, end].mean().item() - 0.5) < 0.02
        assert abs(f[:, end].var().item() - 1 / 12) < 0.005


@pytest.mark.parametrize("prior", [PiecewiseConstant, PiecewiseLinear])
def test_piecewise_priors_refuse_inputs_beyond_their_interval(prior):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        prior().sample(torch.tensor([[1.5]]).double(), 2, torch.Generator())
    with pytest.raises(ValueError, match="rate must be a number"):
        prior(0.0)
