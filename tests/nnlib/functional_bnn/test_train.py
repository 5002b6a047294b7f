"""The functional ELBO finds exact posteriors; networks draw coherent functions; training is the same twice."""

import pytest
import torch
from gpytorch.kernels import RBFKernel
from torch import nn

from nnlib.bayes import Gaussian, LinearGaussian
from nnlib.functional_bnn import (
    FunctionSpace,
    GaussianProcess,
    StochasticMLP,
    WeightSpace,
    fit,
    posterior,
    predict,
)
from nnlib.modes import NonFiniteLoss
from tenpapers.functional_bnn import extrapolate, sine, toy_prior
from tenpapers.functional_bnn.toy import toy_network


class FreeGaussian(nn.Module):
    """q(f) = N(m, LLᵀ) on fixed points: it can be the exact posterior, so that only the method can miss it."""

    def __init__(self, x):
        super().__init__()
        self.x = x
        self.mean = nn.Parameter(torch.zeros(len(x), dtype=x.dtype))
        self.root = nn.Parameter(0.5 * torch.eye(len(x), dtype=x.dtype))

    def draw(self, samples, generator):
        z = torch.randn(samples, len(self.x), generator=generator, dtype=self.x.dtype)
        values = self.mean + z @ self.root.tril().mT

        def at(x):
            index = [int((self.x == point).all(1).nonzero()[0, 0]) for point in x]
            return values[:, index]

        return at


class EightPoints(FunctionSpace):
    """The measurement set is the same eight points at each step: four with data, four without."""

    points = None

    def loss(self, network, x, y, likelihood, n_data, samples, generator):
        from nnlib.functional_bnn import kl_surrogate

        f = network.draw(samples, generator)(network.x)
        kl = kl_surrogate(f, network.x, self.prior, injected_noise=self.injected_noise, generator=generator)
        return likelihood.loss(f[:, : len(x), None], y[:, None]) + kl / len(x)


def test_a_free_gaussian_finds_the_posterior_of_the_gaussian_process():
    """Mean within 0.03 and standard deviations within a fifth, by samples alone (the estimator makes them small)."""
    kernel = RBFKernel().double()
    kernel.lengthscale = 0.5
    x = torch.tensor([[-1.0], [-0.3], [0.4], [1.0], [-1.6], [0.0], [0.7], [1.7]], dtype=torch.float64)
    y, noise = torch.sin(3 * x[:4, 0]), 0.1
    q = FreeGaussian(x)
    one = torch.ones(1).double()
    penalty = EightPoints(GaussianProcess(kernel.requires_grad_(False)), -2 * one, 2 * one, injected_noise=0.05)
    fit(q, x[:4], y, penalty, Gaussian(noise**2, dtype=torch.float64), steps=800, lr=0.03, samples=300)
    mean, covariance = posterior(kernel, x[:4], y, x, noise)
    torch.testing.assert_close(q.mean.detach(), mean, rtol=0, atol=0.03)
    sd = (q.root.tril() @ q.root.tril().mT).diagonal().sqrt().detach()
    ratio = sd / covariance.diagonal().sqrt()
    assert 0.8 < ratio.min() and ratio.max() < 1.1


def test_weight_space_vi_of_a_linear_model_has_the_exact_mean():
    """Mean-field on weights: the mean is that of the posterior, the variances are one over the precision's diagonal."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -0.5]).double() + 0.3 * torch.randn(40, generator=generator, dtype=torch.float64)
    network = StochasticMLP([2, 1], log_sd=-2.0, dtype=torch.float64)
    fit(network, x, y, WeightSpace(1.0), Gaussian(0.09, dtype=torch.float64), steps=800, lr=0.02, samples=50)
    exact = LinearGaussian(torch.cat([x, torch.ones(40, 1).double()], 1), y, 0.09, 1.0)
    torch.testing.assert_close(network.means[0][:, 0].detach(), exact.mean, rtol=0, atol=0.01)
    expected = exact.precision.diagonal().rsqrt()
    torch.testing.assert_close(network.log_sds[0][:, 0].detach().exp(), expected, rtol=0.06, atol=0)


def test_a_drawn_function_is_the_same_function_at_other_inputs():
    """Breaks if noise were drawn for each input: joint distributions would be wrong, marginals right."""
    f = StochasticMLP([1, 8, 1], frequencies=4, log_sd=0.0, dtype=torch.float64).draw(5, torch.Generator())
    x = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(f(x)[:, 2:5], f(x[2:5]), rtol=1e-12, atol=1e-12)
    assert f(x).std(0).min() > 0.1


def test_mean_weights_are_the_draw_without_noise():
    network = StochasticMLP([2, 5, 3], "relu", log_sd=-30.0, dtype=torch.float64)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = network.draw(2, torch.Generator())(x)
    assert drawn.shape == (2, 4, 3)
    torch.testing.assert_close(drawn[1], network(x), rtol=0, atol=1e-9)


def test_kl_scales_differ_by_the_number_of_batches():
    """Divided by the batch of 5 the penalty counts four times as much as divided by the data of 20."""
    problem, evidence = sine(), toy_prior("sine", "RBF")
    network, likelihood = toy_network(), Gaussian(1.0, dtype=torch.float64)
    low, high = problem.grid.min(0).values, problem.grid.max(0).values

    def gradient(scale):
        penalty = FunctionSpace(GaussianProcess(evidence.kernel), low, high, 10, kl_scale=scale)
        loss = penalty.loss(network, problem.x[:5], problem.y[:5], likelihood, 20, 40, torch.Generator().manual_seed(0))
        return torch.autograd.grad(loss, network.means[1])[0]

    by_batch, by_data = gradient("batch"), gradient("data")
    # loss = likelihood + KL/5 or KL/20, with the same draws: the difference is KL (1/5 − 1/20)
    kl = (by_batch - by_data) / (1 / 5 - 1 / 20)
    likelihood_part = by_data - kl / 20
    torch.testing.assert_close(by_batch, likelihood_part + kl / 5)
    assert kl.norm() > 0


@pytest.mark.parametrize("strategy", ["training", "random", "mixed", "adversarial"])
def test_every_measurement_strategy_trains(strategy):
    found = extrapolate(steps=20, samples=20, kernel="RBF", strategy=strategy, n_random=10)
    assert all(value == value and value < 100 for value in found.values())


def test_periodic_prior_extrapolates_and_a_prior_on_weights_does_not():
    """The paper's first figure, in one short run of each."""
    functional = extrapolate(steps=300, samples=40)
    weights = extrapolate(steps=300, samples=40, method="weight-space VI")
    assert functional["outside"] < 0.3
    assert weights["outside"] > 0.5
    assert functional["to gp"] < 0.2


def test_the_same_seed_gives_the_same_network():
    problem = sine()
    outcomes = []
    for _ in range(2):
        network = toy_network()
        fit(network, problem.x, problem.y, WeightSpace(), Gaussian(0.1), steps=5, samples=5, seed=3, batch_size=7)
        outcomes.append(predict(network, problem.grid))
    assert torch.equal(*outcomes)


def test_snapshots_are_taken_where_asked_from_the_start_to_the_end():
    problem, seen = sine(), []
    options = {"steps": 4, "samples": 3, "look": lambda network: seen.append(network), "look_at": (0, 2, 4)}
    done = fit(toy_network(), problem.x, problem.y, WeightSpace(), Gaussian(0.1), **options)
    assert list(done.snapshots) == [0, 2, 4] and len(seen) == 3


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step():
    problem = sine()
    with pytest.raises(NonFiniteLoss, match="step 1"):
        fit(toy_network(), problem.x, problem.y * float("nan"), WeightSpace(), Gaussian(0.1), steps=3, samples=3)


def test_bad_settings_are_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="kl_scale"):
        FunctionSpace(None, -one, one, kl_scale="N")
    with pytest.raises(ValueError, match="low < high"):
        FunctionSpace(None, one, one)
    with pytest.raises(ValueError, match="at least two positive"):
        StochasticMLP([3])
    with pytest.raises(ValueError, match="tanh, relu"):
        StochasticMLP([1, 1], "sigmoid")
