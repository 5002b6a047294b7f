"""The functional ELBO is what its formula says; networks draw coherent functions; training is the same twice."""

import math

import pytest
import torch
from gpytorch.kernels import RBFKernel

from nnlib.bayes import Gaussian, LinearGaussian
from nnlib.functional_bnn import (
    FunctionSpace,
    GaussianProcess,
    StochasticMLP,
    WeightSpace,
    fit,
    kl_surrogate,
    measurement_set,
    predict,
    uniform_points,
)
from nnlib.modes import NonFiniteLoss
from tenpapers.functional_bnn.workloads import sine, toy_network, toy_prior


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


@pytest.mark.parametrize("strategy", ["mixed", "random"])
@pytest.mark.parametrize(("kl_scale", "number"), [("batch", 5), ("data", 20)])
def test_loss_is_the_likelihood_plus_the_kl_over_the_batch_or_the_data(kl_scale, number, strategy):
    """Term by term, with the same draws: the box, the noise, the share of eigenfunctions and the scale all matter."""
    problem, evidence = sine(), toy_prior("sine", "RBF")
    network, likelihood, prior = toy_network(), Gaussian(1.0, dtype=torch.float64), GaussianProcess(evidence.kernel)
    low, high = problem.grid.min(0).values, problem.grid.max(0).values
    options = {"injected_noise": 0.2, "eigenfunctions": 0.8}
    penalty = FunctionSpace(prior, low, high, 10, strategy, kl_scale=kl_scale, **options)
    x, y = problem.x[:5], problem.y[:5]
    loss = penalty.loss(network, x, y, likelihood, 20, 40, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    points = measurement_set(x, uniform_points(low, high, 10, generator), strategy)
    draw = network.draw(40, generator)
    kl = kl_surrogate(draw(points), points, prior, **options, generator=generator)
    misfit = 0.5 * (draw(x) - y).square().mean() + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(loss, misfit + kl / number)
    assert abs(kl) > 1


def test_weights_are_penalised_by_their_kl_over_the_data():
    problem, network, likelihood = sine(), toy_network(), Gaussian(1.0, dtype=torch.float64)
    loss = WeightSpace(2.0).loss(
        *(network, problem.x[:5], problem.y[:5], likelihood, 20, 40, torch.Generator().manual_seed(0))
    )
    f = network.draw(40, torch.Generator().manual_seed(0))(problem.x[:5])
    misfit = 0.5 * (f - problem.y[:5]).square().mean() + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(loss, misfit + network.weight_kl(2.0) / 20)


def test_adversarial_points_are_moved_before_the_network_is_compared_there():
    problem, evidence = sine(), toy_prior("sine", "RBF")
    low, high = problem.grid.min(0).values, problem.grid.max(0).values
    likelihood, prior = Gaussian(1.0, dtype=torch.float64), GaussianProcess(evidence.kernel)
    found = []
    for strategy in ("mixed", "adversarial"):
        penalty = FunctionSpace(prior, low, high, 4, strategy)
        generator = torch.Generator().manual_seed(0)
        found.append(penalty.loss(toy_network(), problem.x, problem.y, likelihood, 20, 20, generator).item())
    assert found[0] != found[1]


class Recorder:
    """A penalty that notes the batches it is given and pulls all means to a constant."""

    def __init__(self):
        self.batches, self.sizes = [], []

    def loss(self, network, x, y, likelihood, n_data, samples, generator):
        self.batches.append(x[:, 0].tolist())
        self.sizes.append((n_data, samples))
        return sum(mean.sum() for mean in network.means)


def test_batches_go_through_all_data_before_any_comes_again():
    x, penalty = torch.arange(7, dtype=torch.float64)[:, None], Recorder()
    fit(toy_network(), x, x[:, 0], penalty, Gaussian(0.1), steps=4, samples=3, batch_size=3)
    first, second = penalty.batches[0] + penalty.batches[1], penalty.batches[2] + penalty.batches[3]
    assert len(set(first)) == len(set(second)) == 6 and first != second
    assert penalty.sizes == 4 * [(7, 3)]


def test_learning_rate_falls_to_a_tenth_over_the_last_quarter():
    """Adam under a constant gradient moves by the learning rate in each step."""
    network, x = toy_network(), torch.zeros(2, 1).double()
    seen = {"look": lambda net: net.means[0][0, 0].item(), "look_at": range(9)}
    done = fit(network, x, x[:, 0], Recorder(), Gaussian(0.1), steps=8, lr=0.1, samples=3, **seen)
    moves = [done.snapshots[i] - done.snapshots[i + 1] for i in range(8)]
    assert moves == pytest.approx([0.1] * 7 + [0.1 * (0.1 + 0.9 / 2)], rel=1e-6)


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
    """Where training goes wrong, and not the data: those are refused before."""
    problem = sine()
    penalty = FunctionSpace(GaussianProcess(RBFKernel().double()), problem.grid[0], problem.grid[-1])
    for kind in (WeightSpace(), penalty):
        network = toy_network()
        with torch.no_grad():
            network.means[0].fill_(float("inf"))
        with pytest.raises(NonFiniteLoss, match="step 1"):
            fit(network, problem.x, problem.y, kind, Gaussian(0.1), steps=3, samples=3)


def test_bad_settings_are_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="kl_scale"):
        FunctionSpace(GaussianProcess(RBFKernel()), -one, one, kl_scale="N")
    with pytest.raises(ValueError, match="low < high"):
        FunctionSpace(GaussianProcess(RBFKernel()), one, one)
    with pytest.raises(ValueError, match="at least two positive"):
        StochasticMLP([3])
    with pytest.raises(ValueError, match="tanh, relu"):
        StochasticMLP([1, 1], "sigmoid")
