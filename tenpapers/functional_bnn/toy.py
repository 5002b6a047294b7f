"""Does the prior decide what happens where there are no data? The paper's toy problems, and one run on each.

Paper: arXiv 1903.05779, section 5.1. Chapter: book/functional_bnn.ipynb.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, PeriodicKernel, RBFKernel, ScaleKernel
from torch import Tensor

from nnlib.bayes import Gaussian
from nnlib.functional_bnn.gp import Evidence, fit_evidence, posterior
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.priors import GaussianProcess, PiecewiseConstant, PiecewiseLinear
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict


@dataclass(frozen=True)
class Toy:
    """A regression problem with one input, standardised, and the truth on a grid that is wider than the data.

    Args:
        x: (n, 1).
        y: (n,).
        grid: (m, 1).
        truth: (m,).
        outside: (m,), True where the grid is away from all data.
        noise_sd: Of y.
    """

    x: Tensor
    y: Tensor
    grid: Tensor
    truth: Tensor
    outside: Tensor
    noise_sd: float


def _toy(x: np.ndarray, y: np.ndarray, function, edge: float, beyond: float, noise_sd: float, points: int) -> Toy:
    grid = np.linspace(-edge, edge, points)
    mean, scale, y_mean, y_scale = x.mean(), x.std(), y.mean(), y.std()
    return Toy(
        torch.from_numpy((x - mean) / scale)[:, None],
        torch.from_numpy((y - y_mean) / y_scale),
        torch.from_numpy((grid - mean) / scale)[:, None],
        torch.from_numpy((function(grid) - y_mean) / y_scale),
        torch.from_numpy(np.abs(grid) > beyond),
        noise_sd / y_scale,
    )


def sine(points: int = 201) -> Toy:
    """y = 2 sin 4x + N(0, 0.2²): ten points on (−2, −½), ten on (½, 2), asked about on (−5, 5).

    Source: arXiv 1903.05779, section 5.1.1; the draw is the published code's.
    """
    state = np.random.RandomState(3)  # the legacy generator drew the published data
    x = np.concatenate([state.uniform(-2, -0.5, 10), state.uniform(0.5, 2, 10)])
    return _toy(x, 2 * np.sin(4 * x) + 0.2 * state.randn(20), lambda g: 2 * np.sin(4 * g), 5, 2.5, 0.2, points)


def cubic(points: int = 201) -> Toy:
    """y = x³ + N(0, 3²): ten points on (−4, −1), ten on (1, 4), asked about on (−6, 6).

    Source: arXiv 1903.05779, section 5.1; the draw is the published code's.
    """
    state = np.random.RandomState(1)
    x = np.concatenate([state.uniform(-4, -1, 10), state.uniform(1, 4, 10)])
    return _toy(x, x**3 + 3 * state.randn(20), lambda g: g**3, 6, 4.5, 3.0, points)


def steps(seed: int = 0, points: int = 101, noise_sd: float = 0.05) -> Toy:
    """A draw of the piecewise-constant prior, seen at 20 points on (0, 0.2) and 20 on (0.8, 1), as it is."""
    generator = torch.Generator("cpu").manual_seed(seed)
    unit = torch.rand(40, 1, generator=generator, dtype=torch.float64, device="cpu")
    x = torch.where(torch.arange(40, device="cpu")[:, None] < 20, 0.2 * unit, 0.8 + 0.2 * unit)
    grid = torch.linspace(0, 1, points, dtype=torch.float64, device="cpu")[:, None]
    values = PiecewiseConstant().sample(torch.cat([x, grid]), 1, generator)[0]
    noise = noise_sd * torch.randn(40, generator=generator, dtype=torch.float64, device="cpu")
    outside = (grid[:, 0] > 0.2) & (grid[:, 0] < 0.8)
    return Toy(x, values[:40] + noise, grid, values[40:], outside, noise_sd)


KERNELS = {
    "RBF": lambda: ScaleKernel(RBFKernel()),
    "periodic + RBF": lambda: ScaleKernel(PeriodicKernel()) + ScaleKernel(RBFKernel()),
    "linear + RBF": lambda: LinearKernel() + ScaleKernel(RBFKernel()),
}
TOYS = {"sine": sine, "cubic": cubic}


@lru_cache
def toy_prior(toy: str, kernel: str) -> Evidence:
    """The prior of a toy problem, fitted by the evidence with the noise known, six starts."""
    problem = TOYS[toy]()
    return fit_evidence(
        KERNELS[kernel]().double(), problem.x, problem.y, problem.noise_sd, restarts=6, steps=30, seed=0
    )


def ornstein_uhlenbeck(rate: float = 3.0) -> Kernel:
    """The Gaussian process with the covariance of the piecewise-constant prior, e^{−rate |x − x'|}/12."""
    kernel = ScaleKernel(MaternKernel(nu=0.5)).double()
    kernel.outputscale, kernel.base_kernel.lengthscale = 1 / 12, 1 / rate
    return kernel.requires_grad_(False)


def toy_network(seed: int = 0, frequencies: int = 20, dtype: torch.dtype = torch.float64) -> StochasticMLP:
    """20 random Fourier features and the input, 50 tanh units, one output."""
    return StochasticMLP([1, 50, 1], "tanh", log_sd=-3.0, frequencies=frequencies, seed=seed, dtype=dtype)


def toy_penalty(problem: Toy, evidence: Evidence, method: str, **options: Any) -> FunctionSpace | WeightSpace:
    """What a method adds to the likelihood: ``fBNN`` or ``weight-space VI``."""
    if method == "weight-space VI":
        return WeightSpace(1.0)
    prior = GaussianProcess(evidence.kernel)
    low, high = problem.grid.min(0).values, problem.grid.max(0).values
    return FunctionSpace(prior, low, high, **({"n_random": 30, "injected_noise": 0.05} | options))


def extrapolate(
    toy: str = "sine",
    kernel: str = "periodic + RBF",
    method: str = "fBNN",
    steps: int = 600,
    samples: int = 50,
    lr: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> dict[str, float]:
    """Train one network on a toy problem and measure it where there are no data.

    Args:
        toy: ``sine`` or ``cubic``.
        kernel: A key of ``KERNELS``, the prior of the fBNN and of the exact process it is compared with.
        method: ``fBNN`` or ``weight-space VI``.
        steps: Of Adam.
        samples: Functions a step.
        lr: Its learning rate.
        seed: Of network and draws.
        options: Of ``FunctionSpace``.

    Returns:
        Root mean squared errors of the predictive mean, in standard deviations of y: ``outside`` to the truth away from
        the data, ``gp outside`` of the exact process there, ``to gp`` between the two everywhere, ``at data`` to the
        targets; and ``sd ratio``, the mean predictive standard deviation outside over that of the exact process.
    """
    problem, evidence = TOYS[toy](), toy_prior(toy, kernel)
    network = toy_network(seed)
    likelihood = Gaussian(problem.noise_sd**2, dtype=torch.float64)
    penalty = toy_penalty(problem, evidence, method, **options)
    fit(network, problem.x, problem.y, penalty, likelihood, steps=steps, samples=samples, lr=lr, seed=seed)
    f = predict(network, problem.grid)
    mean, covariance = posterior(evidence.kernel, problem.x, problem.y, problem.grid, problem.noise_sd)
    out, at_data = problem.outside, predict(network, problem.x).mean(0)
    return {
        "outside": _rms(f.mean(0)[out] - problem.truth[out]),
        "gp outside": _rms(mean[out] - problem.truth[out]),
        "to gp": _rms(f.mean(0) - mean),
        "at data": _rms(at_data - problem.y),
        "sd ratio": float(f.std(0)[out].mean() / covariance.diagonal().clamp_min(0).sqrt()[out].mean()),
    }


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


PRIORS_ON_UNIT = {
    "piecewise constant": PiecewiseConstant,
    "piecewise linear": PiecewiseLinear,
    "Gaussian twin": lambda: GaussianProcess(ornstein_uhlenbeck(), mean=0.5),
}


def piecewise_run(prior: str, steps_of_adam: int = 800, samples: int = 100, seed: int = 0) -> dict[str, float]:
    """Do functions of the posterior look like the prior's? Their small changes in the gap between the data.

    Args:
        prior: A key of ``PRIORS_ON_UNIT``; the Gaussian twin has the mean and covariance of the first.
        steps_of_adam: Length of the training.
        samples: Functions a step.
        seed: Of network and draws.

    Returns:
        ``flat``: the share of steps of 0.01 in the gap along which a function of the posterior changes by less than
        0.01; ``prior flat``: the same of the prior's own functions; ``sd``: the mean predictive standard deviation in
        the gap; ``at data``: root mean squared error at the data.
    """
    problem, process = steps(), PRIORS_ON_UNIT[prior]()
    network = StochasticMLP(
        [1, 50, 1], "tanh", log_sd=-1.5, frequencies=30, frequency_range=(1, 40), seed=seed, dtype=torch.float64
    )
    low, high = problem.grid[0], problem.grid[-1]
    penalty = FunctionSpace(process, low, high, n_random=40, injected_noise=0.02, eigenfunctions=0.9)
    likelihood = Gaussian(problem.noise_sd**2, dtype=torch.float64)
    options = {"steps": steps_of_adam, "samples": samples, "lr": 0.01, "batch_size": 20, "seed": seed}
    fit(network, problem.x, problem.y, penalty, likelihood, **options)
    f = predict(network, problem.grid)
    drawn = process.sample(problem.grid, 200, torch.Generator("cpu").manual_seed(seed))
    return {
        "flat": _flat(f[:, problem.outside]),
        "prior flat": _flat(drawn[:, problem.outside]),
        "sd": float(f[:, problem.outside].std(0).mean()),
        "at data": _rms(predict(network, problem.x).mean(0) - problem.y),
    }


def _flat(f: Tensor) -> float:
    return float((f.diff(dim=1).abs() < 0.01).double().mean())
