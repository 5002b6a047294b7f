"""KL between processes: lower bounds that grow with the set, the bound on the evidence, weights and functions."""

import math
from itertools import pairwise

import pytest
import torch
from gpytorch.kernels import MaternKernel, RBFKernel

from nnlib.functional_bnn import feature_kl, gaussian_kl, log_evidence, posterior, process_kl
from nnlib.functional_bnn.gp import gram
from tests.oracles import functional_bnn as oracle


def kernel(length, kind=RBFKernel):
    k = kind().double()
    k.lengthscale = length
    return k.requires_grad_(False)


def covariance(n, seed):
    root = torch.randn(n, n + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.mT


def test_gaussian_kl_is_the_mean_log_ratio():
    mean, other = torch.tensor([0.2, -1.0, 0.4]).double(), torch.zeros(3).double()
    S, S0 = covariance(3, 0), covariance(3, 1)
    sampled, error = oracle.gaussian_kl_by_sampling(mean, S, other, S0, 200_000, 0)
    assert abs(gaussian_kl(mean, S, other, S0).item() - sampled) < 4 * error
    isotropic = 0.5 * ((S.trace() + mean.square().sum()) / 2.0 - 3 + 3 * math.log(2.0) - S.logdet())
    torch.testing.assert_close(gaussian_kl(mean, S, other, 2.0 * torch.eye(3).double()), isotropic)


def test_kl_never_falls_when_a_point_is_added():
    """The data-processing inequality: forgetting a point never makes two processes easier to tell apart."""
    x = torch.rand(12, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    values = [process_kl(kernel(0.6, MaternKernel), kernel(1.0), x[:n], 1e-3).item() for n in range(1, 13)]
    assert all(after >= before - 1e-9 for before, after in pairwise(values))
    assert values[-1] > values[0] + 1


def test_a_process_has_no_kl_to_itself_whatever_the_injected_noise():
    x = torch.linspace(0, 2, 6, dtype=torch.float64)[:, None]
    for noise in (0.1, 1.0):
        assert abs(process_kl(kernel(0.8), kernel(0.8), x, noise).item()) < 1e-9
    values = [process_kl(kernel(0.5), kernel(1.0), x, noise).item() for noise in (0.1, 0.3, 1.0)]
    assert values[0] > values[1] > values[2] > 0  # noise makes two processes harder to tell apart


def test_where_the_weights_determine_the_function_the_two_kls_are_equal():
    generator = torch.Generator().manual_seed(2)
    phi = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    mean, S, S0 = torch.randn(6, generator=generator).double(), covariance(6, 3), torch.eye(6).double()
    weights = gaussian_kl(mean, S, torch.zeros(6).double(), S0)
    torch.testing.assert_close(feature_kl(phi, mean, S, S0, 0.0), weights, rtol=1e-8, atol=1e-8)
    fewer = [feature_kl(phi[:n], mean, S, S0, 0.0).item() for n in range(1, 7)]
    assert fewer == sorted(fewer)


def test_kl_of_a_process_of_few_features_grows_without_bound_as_the_injected_noise_vanishes():
    """The criticism of Burt et al.: a three-dimensional family has no density with respect to the prior."""
    x = torch.linspace(0, 3, 8, dtype=torch.float64)[:, None]
    phi = torch.cat([torch.ones_like(x), x, x**2], 1)
    prior = gram(kernel(1.0, MaternKernel), x)
    values = []
    for noise in (1e-1, 1e-2, 1e-3):
        eye = noise**2 * torch.eye(8).double()
        zero = torch.zeros(8).double()
        values.append(gaussian_kl(zero, phi @ phi.mT + eye, zero, prior + eye).item())
    growth = [b - a for a, b in pairwise(values)]
    # 5 of 8 directions are empty: each factor of 10 costs 5 log 10
    assert growth[-1] == pytest.approx(5 * 2.302585, rel=0.05)


@pytest.mark.parametrize("extra", [0, 5])
def test_gap_to_the_log_evidence_is_the_kl_to_the_posterior(extra):
    """log p(y) − L(q) = KL[q(f_Z) ‖ p(f_Z | y)] exactly, where Z holds all training inputs."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 1, generator=generator).double(), torch.randn(4, generator=generator).double()
    z = torch.cat([x, torch.linspace(-3, 3, extra, dtype=torch.float64)[:, None]])
    noise, k = 0.5, kernel(0.7, MaternKernel)
    n = len(z)
    m, S = torch.randn(n, generator=generator).double(), covariance(n, 5) / n
    expected = -0.5 * (((y - m[:4]) ** 2 + S.diagonal()[:4]) / noise**2).sum()
    expected = expected - 4 * torch.tensor(noise * (2 * torch.pi) ** 0.5).double().log()
    prior = gram(k, z)
    bound = expected - gaussian_kl(m, S, torch.zeros(n).double(), prior)
    mean, C = posterior(k, x, y, z, noise)
    gap = gaussian_kl(m, S, mean, C)
    torch.testing.assert_close(log_evidence(k, x, y, noise) - bound, gap, rtol=1e-4, atol=1e-4)


def test_a_singular_prior_is_an_error_not_a_number():
    x = torch.zeros(2, 1, dtype=torch.float64)  # the same point twice
    with pytest.raises(ValueError, match=r"the covariance of q at x must be positive definite: .* injected_noise"):
        process_kl(kernel(1.0), kernel(1.0), torch.cat([x, x, x]))
