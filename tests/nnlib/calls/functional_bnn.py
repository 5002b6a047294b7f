"""Calls of ``nnlib.functional_bnn``. Kernels are gpytorch's: oracles take their matrices as they are."""

import mpmath
import torch
from gpytorch.kernels import RBFKernel
from torch.distributions import MultivariateNormal, kl_divergence

from nnlib.functional_bnn import GaussianProcess, PiecewiseConstant, PiecewiseLinear, SpectralStein, StochasticMLP
from tests.nnlib.calls.bayes import CALLS as BAYES
from tests.nnlib.calls.bayes import ORACLES as ORACLES_OF_BAYES
from tests.nnlib.calls.bayes import numbers, spread
from tests.oracles import functional_bnn as oracle

BOUNDARIES = "tests/nnlib/functional_bnn/test_boundaries.py::"
WHERE = {"dtype": torch.float64, "device": torch.device("cpu")}


def generator():
    return torch.Generator().manual_seed(0)


def kernel(length=1.0):
    return RBFKernel().double().initialize(lengthscale=length).requires_grad_(False)


def data(n=4):
    return {"x": torch.linspace(0.1, 0.9, n, dtype=torch.float64)[:, None] ** 2, "y": numbers(n)}


def points():
    return torch.tensor([[0.3], [0.7]], dtype=torch.float64)


def network():
    return StochasticMLP([1, 3, 1], dtype=torch.float64)


def process(**others):
    return {"self": GaussianProcess(kernel(), 0.5), "x": data()["x"]} | others


def box():
    return {"low": torch.tensor([-1.0, 0.0]).double(), "high": torch.tensor([1.0, 2.0]).double()}


CALLS = {
    "ArcCosine": lambda: {"scale": 2.0},
    "Evidence": lambda: {"kernel": kernel(), "noise_sd": 0.1, "log_evidence": -3.0},
    "FunctionSpace": lambda: {
        "prior": GaussianProcess(kernel()), **box(), "n_random": 3, "strategy": "adversarial", "injected_noise": 0.1,
        "eigenfunctions": 0.9, "kl_scale": "data",
    },
    "GaussianProcess": lambda: {"kernel": kernel(), "mean": 0.5},
    "GaussianProcess.log_density": lambda: process(f=numbers(3, 4), injected_noise=0.3),
    "GaussianProcess.sample": lambda: process(samples=3, generator=generator()),
    "NeuralKernelNetwork": lambda: {"d": 2, "lengthscale": torch.tensor([1.0, 2.0]), "seed": 0},
    "PiecewiseConstant": lambda: {"rate": 3.0},
    "PiecewiseConstant.sample": lambda: {
        "self": PiecewiseConstant(), "x": data()["x"], "samples": 3, "generator": generator()
    },
    "PiecewiseLinear": lambda: {"rate": 3.0},
    "PiecewiseLinear.sample": lambda: {
        "self": PiecewiseLinear(), "x": data()["x"], "samples": 3, "generator": generator()
    },
    "SpectralStein": lambda: {
        "samples": numbers(6, 2), "eigenfunctions": 3, "width": "dimension", "queries": numbers(2, 2)
    },
    "SpectralStein.eigenfunctions": lambda: {"self": SpectralStein(numbers(6, 2), 3, 0.8), "y": numbers(2, 2, seed=1)},
    "SpectralStein.score": lambda: {"self": SpectralStein(numbers(6, 2), 3, 0.8), "y": numbers(2, 2, seed=1)},
    "StochasticMLP": lambda: {
        "sizes": [1, 3, 1], "activation": "relu", "log_sd": -2.0, "frequencies": 2, "frequency_range": (0.5, 2.0),
        "seed": 0, **WHERE,
    },
    "StochasticMLP.draw": lambda: {"self": network(), "samples": 3, "generator": generator()},
    "StochasticMLP.weight_kl": lambda: {"self": network(), "prior_sd": 2.0},
    "WeightSpace": lambda: {"prior_sd": 2.0},
    "adversarial_points": lambda: {
        "network": network(), "prior": GaussianProcess(kernel()), "x": data()["x"], "start": points(),
        "low": torch.zeros(1).double(), "high": torch.ones(1).double(), "steps": 2, "lr": 0.1, "samples": 5,
        "injected_noise": 0.1, "eigenfunctions": 0.9, "generator": generator(),
    },
    "feature_kl": lambda: {
        "features": numbers(4, 2), "mean": numbers(2), "covariance": spread(2, 1), "prior_covariance": spread(2, 2),
        "injected_noise": 0.3,
    },
    "fit_evidence": lambda: {
        "kernel": kernel(), **data(), "noise_sd": 0.3, "learn_noise": True, "restarts": 2, "steps": 2, "seed": 0
    },
    "gaussian_kl": BAYES["gaussian_kl"],
    "kl_surrogate": lambda: {
        "f": numbers(5, 4), "x": data()["x"], "prior": GaussianProcess(kernel()), "injected_noise": 0.1,
        "eigenfunctions": 0.9, "generator": generator(),
    },
    "log_evidence": lambda: {"kernel": kernel(), **data(), "noise_sd": 0.3},
    "max_value_entropy": lambda: {"mean": numbers(3), "sd": numbers(3, seed=1).abs(), "maxima": numbers(2, seed=2)},
    "median_widths": lambda: {"samples": numbers(5, 2), "per_dimension": True},
    "network_belief": lambda: {"network": network(), "candidates": points(), "samples": 3, "seed": 1},
    "posterior": lambda: {"kernel": kernel(), **data(), "new": points(), "noise_sd": 0.3},
    "predict": lambda: {"network": network(), "x": points(), "samples": 3, "seed": 1},
    "process_belief": lambda: {
        "kernel": kernel(), **data(), "candidates": points(), "noise_sd": 0.3, "samples": 3, "generator": generator()
    },
    "process_kl": lambda: {"q": kernel(), "p": kernel(0.5), "x": data()["x"], "injected_noise": 0.3},
    "uniform_points": lambda: {**box(), "n": 3, "generator": generator()},
}  # fmt: skip
ELSEWHERE = {
    "fit": BOUNDARIES + "test_arguments_that_mean_nothing_are_refused_by_name",
    "fit_on_subsets": BOUNDARIES + "test_arguments_that_mean_nothing_are_refused_by_name",
    "measurement_set": BOUNDARIES + "test_what_is_no_measurement_set_is_refused_by_name",
}


def matrix(k, x, sd, share=0.0):
    """K(x, x) + (sd² + a share of the mean variance) I."""
    K = k(x, x).to_dense()
    return K + (sd**2 + share * K.trace() / len(x)) * torch.eye(len(x)).double()


SHARE = 1e-8  # that processes have on their diagonal, as documented


def zeros(x):
    return torch.zeros(len(x), dtype=torch.float64)


def posterior_by_inverse(kernel, x, y, new, noise_sd):
    K, cross = matrix(kernel, x, noise_sd, SHARE), kernel(x, new).to_dense()
    return cross.T @ torch.linalg.solve(K, y), matrix(kernel, new, 0.0) - cross.T @ torch.linalg.solve(K, cross)


def entropies(mean, sd, maxima):
    """With 300 digits, so that nothing cancels."""
    with mpmath.workdps(300):
        lost = []
        for m, s in zip(mean.tolist(), sd.tolist(), strict=True):
            gammas = [(mpmath.mpf(top) - m) / s for top in maxima.tolist()]
            each = [g * mpmath.npdf(g) / mpmath.ncdf(g) / 2 - mpmath.log(mpmath.ncdf(g)) for g in gammas]
            lost.append(float(sum(each) / len(each)))
    return torch.tensor(lost, dtype=torch.float64)


def medians(samples, per_dimension):
    """σ_i = √d · median |x_i − x'_i|, one pair after another; the lower of two medians, as torch has it."""
    n, d = samples.shape
    pairs = [(samples[a] - samples[b]).abs() for a in range(n) for b in range(a)]
    widths = [d**0.5 * sorted(float(pair[i]) for pair in pairs)[(len(pairs) - 1) // 2] for i in range(d)]
    return torch.tensor([w + 1 if w < 1e-6 else w for w in widths], dtype=torch.float64)


ORACLES = {
    "GaussianProcess.log_density": lambda self, f, x, injected_noise: torch.stack(
        [MultivariateNormal(zeros(x) + 0.5, matrix(self.kernel, x, injected_noise, SHARE)).log_prob(row) for row in f]
    ),
    "SpectralStein.score": lambda self, y: oracle.stein_score(
        self.samples, self.samples if y is None else y, self.width, 3
    ),
    "feature_kl": lambda features, mean, covariance, prior_covariance, injected_noise: kl_divergence(
        *(
            MultivariateNormal(m, features @ S @ features.T + injected_noise**2 * torch.eye(len(features)).double())
            for m, S in ((features @ mean, covariance), (zeros(features), prior_covariance))
        )
    ),
    "gaussian_kl": ORACLES_OF_BAYES["gaussian_kl"],
    "log_evidence": lambda kernel, x, y, noise_sd: MultivariateNormal(
        zeros(x), matrix(kernel, x, noise_sd, SHARE)
    ).log_prob(y),
    "max_value_entropy": entropies,
    "median_widths": medians,
    "posterior": posterior_by_inverse,
    "process_kl": lambda q, p, x, injected_noise: kl_divergence(
        MultivariateNormal(zeros(x), matrix(q, x, injected_noise)),
        MultivariateNormal(zeros(x), matrix(p, x, injected_noise)),
    ),
}  # fmt: skip
