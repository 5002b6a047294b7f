"""What is learnt, played and searched: toy problems, series, tables, bandits, functions; and the priors.

Paper: arXiv 1903.05779, section 5. Chapter: book/functional_bnn.ipynb.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from gpytorch.kernels import Kernel, LinearKernel, MaternKernel, PeriodicKernel, RBFKernel, ScaleKernel
from torch import Tensor, nn

from nnlib.functional_bnn.gp import Evidence, fit_evidence
from nnlib.functional_bnn.kernels import ArcCosine, NeuralKernelNetwork, fit_on_subsets
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.objective import uniform_points
from nnlib.functional_bnn.priors import GaussianProcess, PiecewiseConstant, PiecewiseLinear
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace
from nnlib.training import Dataset
from tenpapers.data import load, remember
from tenpapers.data.sources import note

METHODS = ("exact GP", "fBNN", "weight-space VI")
LARGE_METHODS = ("GP of a subset", "weight-space VI", "fBNN")
SEARCHES = ("random search", "Bayes by backprop", "fBNN", "exact GP")


# Toy problems with one input


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


Truth = Callable[[np.ndarray], np.ndarray]


def _toy(x: np.ndarray, y: np.ndarray, truth: Truth, edge: float, beyond: float, noise_sd: float, points: int) -> Toy:
    grid = np.linspace(-edge, edge, points)
    mean, scale, y_mean, y_scale = x.mean(), x.std(), y.mean(), y.std()
    return Toy(
        torch.from_numpy((x - mean) / scale)[:, None],
        torch.from_numpy((y - y_mean) / y_scale),
        torch.from_numpy((grid - mean) / scale)[:, None],
        torch.from_numpy((truth(grid) - y_mean) / y_scale),
        torch.from_numpy(np.abs(grid) > beyond),
        noise_sd / y_scale,
    )


def sine(points: int = 201) -> Toy:
    """y = 2 sin 4x + N(0, 0.2²): ten points on (−2, −½), ten on (½, 2), asked about on (−5, 5).

    Source: arXiv 1903.05779, section 5.1.1; the draw is the published code's.
    """
    note("a sine at 20 points, drawn as in the published code")
    state = np.random.RandomState(3)  # the legacy generator drew the published data
    x = np.concatenate([state.uniform(-2, -0.5, 10), state.uniform(0.5, 2, 10)])
    return _toy(x, 2 * np.sin(4 * x) + 0.2 * state.randn(20), lambda g: 2 * np.sin(4 * g), 5, 2.5, 0.2, points)


def cubic(points: int = 201) -> Toy:
    """y = x³ + N(0, 3²): ten points on (−4, −1), ten on (1, 4), asked about on (−6, 6).

    Source: arXiv 1903.05779, section 5.1; the draw is the published code's.
    """
    note("a cubic at 20 points, drawn as in the published code")
    state = np.random.RandomState(1)
    x = np.concatenate([state.uniform(-4, -1, 10), state.uniform(1, 4, 10)])
    return _toy(x, x**3 + 3 * state.randn(20), lambda g: g**3, 6, 4.5, 3.0, points)


def steps(seed: int = 0, points: int = 101, noise_sd: float = 0.05) -> Toy:
    """A draw of the piecewise-constant prior, seen at 20 points on (0, 0.2) and 20 on (0.8, 1), as it is."""
    note("a step function at 40 points, drawn")
    generator = torch.Generator("cpu").manual_seed(seed)
    unit = torch.rand(40, 1, generator=generator, dtype=torch.float64, device="cpu")
    x = torch.where(torch.arange(40, device="cpu")[:, None] < 20, 0.2 * unit, 0.8 + 0.2 * unit)
    grid = torch.linspace(0, 1, points, dtype=torch.float64, device="cpu")[:, None]
    values = PiecewiseConstant().sample(torch.cat([x, grid]), 1, generator)[0]
    noise = noise_sd * torch.randn(40, generator=generator, dtype=torch.float64, device="cpu")
    outside = (grid[:, 0] > 0.2) & (grid[:, 0] < 0.8)
    return Toy(x, values[:40] + noise, grid, values[40:], outside, noise_sd)


def made(kernel: Callable[[], Kernel], **values: Any) -> Kernel:
    """A new kernel in double precision on the CPU, whatever the default device, with these hyperparameters."""
    with torch.device("cpu"):
        return kernel().double().initialize(**values)


TOYS = {"sine": sine, "cubic": cubic}
TOY_KERNELS: dict[str, Callable[[], Kernel]] = {
    "RBF": lambda: ScaleKernel(RBFKernel()),
    "periodic + RBF": lambda: ScaleKernel(PeriodicKernel()) + ScaleKernel(RBFKernel()),
    "linear + RBF": lambda: LinearKernel() + ScaleKernel(RBFKernel()),
}


@remember()
def toy_prior(toy: str, kernel: str) -> Evidence:
    """The prior of a toy problem, fitted by the evidence with the noise known, six starts."""
    problem, start = TOYS[toy](), made(TOY_KERNELS[kernel])
    return fit_evidence(start, problem.x, problem.y, problem.noise_sd, restarts=6, steps=30, seed=0)


def toy_network(
    seed: int = 0,
    frequencies: int = 20,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> StochasticMLP:
    """20 random Fourier features and the input, 50 tanh units, one output."""
    options: dict[str, Any] = {"log_sd": -3.0, "frequencies": frequencies, "seed": seed}
    return StochasticMLP([1, 50, 1], "tanh", **options, dtype=dtype, device=device)


def toy_penalty(problem: Toy, evidence: Evidence, method: str, **options: Any) -> FunctionSpace | WeightSpace:
    """What a method adds to the likelihood: ``fBNN`` or ``weight-space VI``, which takes no options."""
    if method == "weight-space VI":
        if options:
            raise ValueError(f"weight-space VI takes no options of the function space: got {', '.join(options)}")
        return WeightSpace(1.0)
    prior = GaussianProcess(evidence.kernel)
    low, high = problem.grid.min(0).values, problem.grid.max(0).values
    return FunctionSpace(prior, low, high, **({"n_random": 30, "injected_noise": 0.05} | options))


def ornstein_uhlenbeck(rate: float = 3.0) -> Kernel:
    """The Gaussian process with the covariance of the piecewise-constant prior, e^{−rate |x − x'|}/12."""
    values = {"outputscale": 1 / 12, "base_kernel.lengthscale": 1 / rate}
    return made(lambda: ScaleKernel(MaternKernel(nu=0.5)), **values).requires_grad_(False)


PRIORS_ON_UNIT = {
    "piecewise constant": lambda device="cpu": PiecewiseConstant(),
    "piecewise linear": lambda device="cpu": PiecewiseLinear(),
    "Gaussian twin": lambda device="cpu": GaussianProcess(ornstein_uhlenbeck().to(device), mean=0.5),
}


class FreeGaussian(nn.Module):
    """q(f) = N(m, LLᵀ) on fixed points: it can be the exact posterior, so that only the method can miss it.

    Args:
        x: (n, d), the points.
    """

    def __init__(self, x: Tensor):
        super().__init__()
        self.x = x
        self.mean = nn.Parameter(torch.zeros_like(x[:, 0]))
        self.root = nn.Parameter(0.5 * torch.eye(len(x), dtype=x.dtype, device=x.device))

    @property
    def covariance(self) -> Tensor:
        """(n, n)."""
        return self.root.tril() @ self.root.tril().mT

    def draw(self, samples: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """Functions, to be evaluated at any of the fixed points: (k, d) -> (samples, k)."""
        z = torch.randn(samples, len(self.x), generator=generator, dtype=self.x.dtype, device="cpu").to(self.x.device)
        values = self.mean + z @ self.root.tril().mT
        return lambda x: values[:, [int((self.x == point).all(1).nonzero()[0, 0]) for point in x]]


# Two series


class Series(NamedTuple):
    """A series in standard units of its first part, years and values; the last years are for testing."""

    x: Tensor  # (n, 1)
    y: Tensor  # (n,)
    x_test: Tensor  # (m, 1)
    y_test: Tensor  # (m,)
    year: float  # one year in units of x
    y_scale: float


def prepared(name: str, every: int = 1, device: torch.device | str = "cpu") -> Series:
    """A series: training and validation parts together are the past, each ``every``-th point kept."""
    data = load(name).to(device, dtype=torch.float64)
    x = torch.cat([data.train.x, data.validation.x])[::every]
    y = torch.cat([data.train.y, data.validation.y])[::every]
    mean, scale, y_mean, y_scale = x.mean(), x.std(), y.mean(), y.std()
    return Series(
        (x - mean) / scale,
        (y - y_mean) / y_scale,
        (data.test.x - mean) / scale,
        (data.test.y - y_mean) / y_scale,
        float(1 / scale),
        float(y_scale),
    )


@remember()
def series_prior(name: str, every: int = 1) -> Evidence:
    """Trend + season + slow change: a linear, a periodic of one year and an RBF kernel, fitted by the evidence.

    The period starts at one year; everything else, and the noise, is found from one start.
    """
    series = prepared(name, every)

    def start() -> Kernel:
        season = PeriodicKernel().initialize(period_length=series.year)
        return LinearKernel() + ScaleKernel(season) + ScaleKernel(RBFKernel())

    return fit_evidence(made(start), series.x, series.y, 0.1, learn_noise=True, restarts=1, steps=40)


def series_network(series: Series, seed: int = 0) -> StochasticMLP:
    """50 tanh units over time and 60 random Fourier features, whose periods reach down to two thirds of a year."""
    highest = 2 * math.pi / (series.year / 1.5)
    options: dict[str, Any] = {"log_sd": -4.0, "frequencies": 60, "frequency_range": (0.2, highest), "seed": seed}
    return StochasticMLP([1, 50, 1], "tanh", **options, dtype=torch.float64, device=series.x.device)


# Tables


@remember()
def table(name: str, split: int, device: torch.device | str = "cpu") -> Dataset:
    """A regression set in double precision."""
    return load(name, split=split).to(device, dtype=torch.float64)


@remember()
def ard_prior(
    name: str, split: int, steps: int = 60, subset: int = 400, device: torch.device | str = "cpu"
) -> Evidence:
    """An RBF kernel with one length a feature, and the noise, by the evidence of at most ``subset`` training points.

    Lengths start at the median distance along each feature times √d, the noise variance at 0.1.
    """
    train = table(name, split, device).train
    x, y = train.x[:subset], train.y[:subset, 0]
    distances = (x[:, None] - x).abs().flatten(0, 1).median(0).values
    lengths = {"base_kernel.lengthscale": distances.clamp_min(0.1) * x.shape[1] ** 0.5}
    kernel = made(lambda: ScaleKernel(RBFKernel(ard_num_dims=x.shape[1])), **lengths).to(x.device)
    return fit_evidence(kernel, x, y, 0.1**0.5, learn_noise=True, restarts=3, steps=steps)


@remember(maxsize=1)
def neural_prior(name: str, split: int, steps: int, device: torch.device | str = "cpu") -> Evidence:
    """A neural kernel network fitted to the training part of a split, by subsets of 200 points.

    Lengths start at √d (features have variance 1), the noise variance at 0.1.
    """
    train = table(name, split, device).train
    d = train.x.shape[1]
    kernel = made(lambda: NeuralKernelNetwork(d, lengthscale=d**0.5)).to(train.x.device)
    return fit_on_subsets(kernel, train.x, train.y[:, 0], 0.1**0.5, steps=steps)


# Contextual bandits


@dataclass(frozen=True)
class Bandit:
    """Contexts in the order of play, and what each action would bring there.

    Args:
        contexts: (T, d).
        rewards: (T, K), as drawn; an agent sees the entry of its action alone.
        expected: (T, K), their means, from which regret is counted.
    """

    contexts: Tensor
    rewards: Tensor
    expected: Tensor


def wheel(rounds: int, delta: float = 0.5, seed: int = 0) -> Bandit:
    """The wheel: contexts uniform in the unit disc. Action 0 brings 1.2, the others 1.0; but beyond the radius δ one of
    actions 1 to 4, which one depends on the quadrant, brings 50. All with noise of standard deviation 0.01.

    Args:
        rounds: T.
        delta: δ in (0, 1); the larger, the rarer the prize.
        seed: Of contexts and noise.

    Raises:
        ValueError: for δ outside (0, 1).

    Source: Riquelme, Tucker, Snoek 2018, section 5.

    >>> bandit = wheel(10_000, delta=0.6)
    >>> round((bandit.expected.max(1).values == 50).double().mean().item(), 1)  # 1 − δ² = 0.64
    0.6
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie in (0, 1): got {delta}")
    note(f"wheel, δ = {delta:g}, drawn")
    rng = np.random.default_rng(seed)
    radius, angle = np.sqrt(rng.random(rounds)), 2 * np.pi * rng.random(rounds)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    expected = np.tile([1.2, 1.0, 1.0, 1.0, 1.0], (rounds, 1))
    quadrant = 1 + (x[:, 0] < 0) + 2 * (x[:, 1] < 0)
    far = radius > delta
    expected[far, quadrant[far]] = 50.0
    rewards = expected + 0.01 * rng.standard_normal(expected.shape)
    return Bandit(*map(torch.from_numpy, (x, rewards, expected)))


def shuttle(rounds: int, seed: int = 0) -> Bandit:
    """Seven actions, one for each class of Statlog Shuttle: the right one brings 1, the others 0."""
    train = load("shuttle").train
    rows = np.random.default_rng(seed).permutation(len(train.y))[:rounds]
    rewards = nn.functional.one_hot(train.y[rows], 7).double()
    return Bandit(train.x[rows].double(), rewards, rewards)


def mushroom(rounds: int, seed: int = 0) -> Bandit:
    """Eat (0) or leave (1): an edible one brings 5, a poisonous one 5 or −35 with equal odds, leaving brings 0."""
    train = load("mushroom").train
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(train.y))[:rounds]
    poisonous = train.y[rows].double()
    harmed = poisonous * torch.from_numpy(rng.random(rounds) < 0.5).double()
    nothing = torch.zeros_like(poisonous)
    rewards = torch.stack([5 - 40 * harmed, nothing], 1)
    return Bandit(train.x[rows].double(), rewards, torch.stack([5 - 20 * poisonous, nothing], 1))


BANDITS: dict[str, Callable[..., Bandit]] = {"wheel": wheel, "shuttle": shuttle, "mushroom": mushroom}


# Functions to be searched


@dataclass(frozen=True)
class Landscape:
    """A function to be maximised, known at finitely many candidates: its maximum, and so all regret, is exact.

    Args:
        candidates: (m, d), in [−1, 1]^d.
        values: (m,), of the function.
        kernel: Of the Gaussian process it was drawn from; the exact process and the fBNN are told, the others are not.
        noise_sd: Of what a query shows.
    """

    candidates: Tensor
    values: Tensor
    kernel: Kernel
    noise_sd: float = 0.05


SEARCH_KERNELS: dict[str, Callable[[int], Kernel]] = {  # all of variance 1; lengths grow with the diagonal of the box
    "RBF": lambda d: made(RBFKernel, lengthscale=0.3 * d**0.5),
    "Matérn ½": lambda d: made(lambda: MaternKernel(nu=0.5), lengthscale=0.6 * d**0.5),
    "arc-cosine": lambda d: made(lambda: ArcCosine(3.0)),
}


def drawn_landscape(kernel: str, d: int, seed: int = 0, candidates: int = 400) -> Landscape:
    """A function drawn from a Gaussian process at uniformly drawn points of [−1, 1]^d.

    Args:
        kernel: A key of ``SEARCH_KERNELS``.
        d: Dimensions, at least 1.
        seed: Of points and function.
        candidates: m.

    Raises:
        ValueError: for an unknown kernel, or d below 1.
    """
    if kernel not in SEARCH_KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(SEARCH_KERNELS)}: got {kernel!r}")
    if d < 1:
        raise ValueError(f"d must be at least 1: got {d}")
    note(f"functions drawn from Gaussian processes, {candidates} candidates")
    generator = torch.Generator("cpu").manual_seed(seed)
    one = torch.ones(d, dtype=torch.float64, device="cpu")
    points, process = uniform_points(-one, one, candidates, generator), SEARCH_KERNELS[kernel](d).requires_grad_(False)
    return Landscape(points, GaussianProcess(process).sample(points, 1, generator)[0], process)


Placed = TypeVar("Placed", Toy, Bandit, Landscape)


def placed(problem: Placed, device: torch.device | str) -> Placed:
    """The same problem with its tensors, and its kernel, on that device."""
    values = {field.name: getattr(problem, field.name) for field in fields(problem)}
    return replace(problem, **{k: v.to(device) for k, v in values.items() if isinstance(v, Tensor | Kernel)})
