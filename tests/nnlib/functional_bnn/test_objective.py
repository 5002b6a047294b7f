"""The KL's gradient from samples against its closed form, and measurement sets."""

import pytest
import torch
from gpytorch.kernels import MaternKernel

from nnlib.functional_bnn import (
    GaussianProcess,
    PiecewiseConstant,
    SpectralStein,
    StochasticMLP,
    adversarial_points,
    feature_kl,
    gaussian_kl,
    kl_surrogate,
    measurement_set,
    posterior,
    uniform_points,
)
from nnlib.functional_bnn.gp import gram
from tenpapers.functional_bnn.workloads import ornstein_uhlenbeck


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def prior(length=1.0):
    kernel = MaternKernel().double()
    kernel.lengthscale = length
    return GaussianProcess(kernel.requires_grad_(False))


def cosine(a, b):
    return (a.flatten() @ b.flatten() / (a.norm() * b.norm())).item()


def gradients(samples, noise, p, eigenfunctions=0.99, seed=0):
    """Of a free Gaussian on five points: from the surrogate, and exactly."""
    x = torch.linspace(0, 2, 5, dtype=torch.float64)[:, None]
    mean = (0.5 * torch.sin(3 * x[:, 0])).requires_grad_()
    root = torch.linalg.cholesky(gram(MaternKernel().double(), x).detach() * 0.5 + 0.2 * torch.eye(5).double())
    root = root.requires_grad_()
    z = torch.randn(samples, 5, generator=generator(seed), dtype=torch.float64)
    f = mean + z @ root.mT
    options = {"injected_noise": noise, "eigenfunctions": eigenfunctions, "generator": generator(seed + 1)}
    estimated = torch.autograd.grad(kl_surrogate(f, x, p, **options), (mean, root))
    eye = noise**2 * torch.eye(5).double()
    covariance = gram(ornstein_uhlenbeck() if not hasattr(p, "kernel") else p.kernel, x) + eye
    exact = gaussian_kl(mean, root @ root.mT + eye, torch.zeros(5).double(), covariance)
    return estimated, torch.autograd.grad(exact, (mean, root))


def test_gradient_of_the_surrogate_points_along_that_of_the_exact_kl():
    """Breaks with a sign, a gradient through the score, or noise on one process only."""
    estimated, exact = gradients(500, 0.1, prior())
    for found, true in zip(estimated, exact, strict=True):
        assert cosine(found, true) > 0.9


def test_both_processes_are_seen_with_the_injected_noise():
    """The surrogate by hand: the score of noisy values, and the density of a process with noise of that size."""
    x, p = torch.linspace(0, 2, 5, dtype=torch.float64)[:, None], prior()
    f = torch.randn(50, 5, generator=generator(), dtype=torch.float64)
    found = kl_surrogate(f, x, p, injected_noise=0.3, eigenfunctions=0.9, generator=generator(1))
    noisy = f + 0.3 * torch.randn(f.shape, generator=generator(1), dtype=torch.float64)
    covariance = gram(p.kernel, x) + 0.09 * torch.eye(5).double()
    density = torch.distributions.MultivariateNormal(torch.zeros(5).double(), covariance).log_prob(noisy)
    score = SpectralStein(noisy, 0.9).score()
    torch.testing.assert_close(found, (score * noisy).sum(1).mean() - density.mean(), rtol=1e-6, atol=1e-6)


def test_gradient_gets_better_with_the_number_of_samples():
    errors = []
    for samples in (30, 800):
        found = [gradients(samples, 0.1, prior(), seed=s) for s in range(4)]
        errors.append(sum(((e[0] - t[0]).norm() / t[0].norm()).item() for e, t in found))
    assert errors[1] < 0.5 * errors[0]


def test_score_of_a_sampled_prior_leads_the_same_way_as_its_density():
    """An Ornstein–Uhlenbeck process known by its samples only, against the same process with a density."""

    class Sampled:
        def sample(self, x, samples, generator):
            return GaussianProcess(ornstein_uhlenbeck()).sample(x, samples, generator)

    x = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None]
    mean = torch.full((4,), 0.3).double().requires_grad_()
    f = mean + 0.3 * torch.randn(1000, 4, generator=generator(), dtype=torch.float64)
    found = []
    for p in (Sampled(), GaussianProcess(ornstein_uhlenbeck())):
        surrogate = kl_surrogate(f, x, p, injected_noise=0.1, eigenfunctions=0.95, generator=generator(1))
        found.append(torch.autograd.grad(surrogate, mean, retain_graph=True)[0])
    assert cosine(*found) > 0.95


def test_score_of_a_sampled_prior_has_the_width_of_its_samples_and_of_where_it_is_wanted():
    """The surrogate by hand: the prior's score is estimated with the network's values as queries."""
    x = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None]
    f = 2 + 3 * torch.randn(60, 4, generator=generator(), dtype=torch.float64)
    options = {"injected_noise": 0.1, "eigenfunctions": 0.9}
    found = kl_surrogate(f, x, PiecewiseConstant(), **options, generator=generator(1))
    draws = generator(1)
    noisy = f + 0.1 * torch.randn(f.shape, generator=draws, dtype=torch.float64)
    drawn = PiecewiseConstant().sample(x, 60, draws)
    drawn = drawn + 0.1 * torch.randn(f.shape, generator=draws, dtype=torch.float64)
    scores = [SpectralStein(noisy, 0.9).score(), SpectralStein(drawn, 0.9, queries=noisy).score(noisy)]
    torch.testing.assert_close(found, ((scores[0] - scores[1]) * noisy).sum(1).mean())


def test_a_function_far_above_a_piecewise_constant_prior_is_pulled_down():
    x = torch.linspace(0, 1, 6, dtype=torch.float64)[:, None]
    shift = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    f = shift + 0.2 * torch.randn(300, 6, generator=generator(), dtype=torch.float64)
    options = {"injected_noise": 0.05, "eigenfunctions": 0.9, "generator": generator(1)}
    (gradient,) = torch.autograd.grad(kl_surrogate(f, x, PiecewiseConstant(), **options), shift)
    assert gradient > 0


def test_linear_network_has_the_kl_of_its_features():
    """A network without hidden layers is Φw with Gaussian w: its gradient, against the exact KL's."""
    network = StochasticMLP([1, 1], frequencies=3, log_sd=-0.7, seed=1, dtype=torch.float64)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    p = prior(0.7)
    f = network.draw(800, generator())(x)
    surrogate = kl_surrogate(f, x, p, injected_noise=0.3, generator=generator(1))
    estimated = torch.autograd.grad(surrogate, network.means[0])[0][:, 0]
    phi = torch.cat([x, torch.sin(x @ network.omega + network.phase), torch.ones_like(x)], 1)
    mean = network.means[0][:, 0]
    covariance = torch.diag((2 * network.log_sds[0][:, 0]).exp())
    eye = 0.09 * torch.eye(5).double()
    exact = gaussian_kl(phi @ mean, phi @ covariance @ phi.mT + eye, torch.zeros(5).double(), gram(p.kernel, x) + eye)
    true = torch.autograd.grad(exact, network.means[0])[0][:, 0]
    assert cosine(estimated, true) > 0.95
    # and the closed form of features is the same number where the prior is over the weights as well
    own = phi @ torch.eye(5).double() @ phi.mT + eye
    expected = gaussian_kl(phi @ mean, phi @ covariance @ phi.mT + eye, torch.zeros(5).double(), own)
    torch.testing.assert_close(feature_kl(phi, mean, covariance, torch.eye(5).double(), 0.3), expected)


def test_measurement_sets_hold_what_their_names_say():
    x, random = torch.zeros(3, 2), torch.ones(4, 2)
    assert [len(measurement_set(x, random, s)) for s in ("training", "random", "mixed")] == [3, 4, 7]
    assert bool((measurement_set(x, random)[:3] == x).all())  # the likelihood reads the first columns
    with pytest.raises(ValueError, match="training, random, mixed"):
        measurement_set(x, random, "some")
    with pytest.raises(ValueError, match="empty"):
        measurement_set(x, random[:0], "random")


def test_random_points_fill_their_box():
    low, high = torch.tensor([-1.0, 5.0]), torch.tensor([1.0, 7.0])
    points = uniform_points(low, high, 2000, generator())
    assert bool((points >= low).all() and (points <= high).all())
    torch.testing.assert_close(points.mean(0), (low + high) / 2, rtol=0, atol=0.05)


def test_adversarial_points_raise_the_kl_and_stay_in_the_box():
    """With a linear network the KL at any points is known: the points must move uphill on it."""
    network = StochasticMLP([1, 1], frequencies=3, log_sd=-1.0, seed=1, dtype=torch.float64)
    p, low, high = prior(0.7), torch.tensor([-2.0]).double(), torch.tensor([2.0]).double()
    x = torch.zeros(1, 1, dtype=torch.float64)

    def exact(points):
        points = torch.cat([x, points])
        phi = torch.cat([points, torch.sin(points @ network.omega + network.phase), torch.ones_like(points)], 1)
        eye = 0.09 * torch.eye(len(points)).double()
        q = phi @ torch.diag((2 * network.log_sds[0][:, 0]).exp()) @ phi.mT + eye
        zero = torch.zeros(len(points)).double()
        return gaussian_kl(phi @ network.means[0][:, 0], q, zero, gram(p.kernel, points) + eye).item()

    options = {"steps": 30, "lr": 0.03, "samples": 200, "injected_noise": 0.3, "generator": generator()}
    before = after = 0.0
    for seed in range(3):
        start = uniform_points(low, high, 4, generator(seed))
        moved = adversarial_points(network, p, x, start, low, high, **options)
        assert bool((moved >= low).all() and (moved <= high).all())
        before, after = before + exact(start), after + exact(moved)
    assert after > before * 1.1
    with pytest.raises(ValueError, match="density"):
        adversarial_points(network, PiecewiseConstant(), x, start, low, high, **options)


class ExactPosterior:
    """A Gaussian-process posterior given three points, drawn with gradients to where it is asked."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.x = torch.tensor([[-0.5], [0.0], [0.5]], dtype=torch.float64)
        self.y = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)

    def at(self, points):
        mean, covariance = posterior(self.kernel, self.x, self.y, points, 0.1)
        return mean, covariance + 0.09 * torch.eye(len(points)).double()

    def draw(self, samples, generator):
        z = torch.randn(samples, 20, generator=generator, dtype=torch.float64)

        def values(points):
            mean, covariance = self.at(points)
            return mean + z[:, : len(points)] @ torch.linalg.cholesky(covariance).mT

        return values


def test_adversarial_points_climb_the_kl_between_a_posterior_and_its_prior():
    """Far from the data the two are the same process: points that start there must go to the data, step by step."""
    p = prior(0.4)
    q, low, high = ExactPosterior(p.kernel), torch.tensor([-2.0]).double(), torch.tensor([2.0]).double()
    fixed, start = torch.zeros(1, 1).double(), torch.tensor([[-1.1], [1.1]], dtype=torch.float64)

    def exact(points):
        points = torch.cat([fixed, points])
        mean, covariance = q.at(points)
        eye = 0.01 * torch.eye(len(points)).double()
        zero = torch.zeros(len(points)).double()
        return gaussian_kl(mean, covariance + eye, zero, gram(p.kernel, points) + 0.09 * eye / 0.01 + eye).item()

    class Noisy:
        kernel = p.kernel

        def log_density(self, f, x, injected_noise):  # the prior's values are seen with the noise of q's, 0.3
            return p.log_density(f, x, (injected_noise**2 + 0.09) ** 0.5)

    found = [exact(start)]
    for steps in (3, 8, 20):
        options = {"steps": steps, "lr": 0.01, "samples": 300, "injected_noise": 0.1, "generator": generator()}
        found.append(exact(adversarial_points(q, Noisy(), fixed, start, low, high, **options)))
    assert found == sorted(found)
    assert found[-1] > 1.5 * found[0]


def test_values_that_do_not_fit_the_points_are_refused():
    with pytest.raises(ValueError, match="each of the 3 inputs"):
        kl_surrogate(torch.zeros(10, 2), torch.zeros(3, 1), prior(), generator=generator())
