"""What one run is, and what it measures: one function an experiment, from the entries of a cell to a row of numbers.

``extrapolate``, ``piecewise_run`` and ``free_gaussian`` on toy problems, ``score_error`` of the estimator, ``forecast``
of a series, ``regress`` and ``regress_large`` on tables, ``bandit_run``, ``search_run``. All take a ``device``; priors
of toys and series are fitted on the CPU.
Paper: arXiv 1903.05779, section 5. Chapter: book/functional_bnn.ipynb.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import RBFKernel
from torch import Tensor

from nnlib.bayes import Gaussian, regression_metrics
from nnlib.functional_bnn.gp import marginal_draws, posterior
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.objective import kl_surrogate
from nnlib.functional_bnn.optimisation import max_value_entropy
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.score import SpectralStein
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict
from nnlib.training import device as device_of
from tenpapers.data.uci import TABLES
from tenpapers.functional_bnn import workloads
from tenpapers.functional_bnn.agents import AGENTS, ExactSearcher, NetworkSearcher
from tenpapers.functional_bnn.workloads import LARGE_METHODS, METHODS, SEARCHES, Bandit, FreeGaussian, Landscape

FLOOR = 0.05  # least standard deviation of the noise on tables, for all methods
SUBSET = 1000  # training points of a large table that the exact process is given


def _known(what: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}: got {name!r}")


def extrapolate(
    toy: str = "sine",
    kernel: str = "periodic + RBF",
    method: str = "fBNN",
    steps: int = 600,
    samples: int = 50,
    lr: float = 0.01,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> dict[str, float]:
    """Train one network on a toy problem and measure it where there are no data.

    Args:
        toy: ``sine`` or ``cubic``.
        kernel: A key of ``TOY_KERNELS``, the prior of the fBNN and of the exact process it is compared with.
        method: ``fBNN`` or ``weight-space VI``.
        steps: Of Adam.
        samples: Functions a step.
        lr: Its learning rate.
        seed: Of network and draws.
        device: Where to do all this.
        options: Of ``FunctionSpace``, for the fBNN.

    Returns:
        Root mean squared errors of the predictive mean, in standard deviations of y: ``outside`` to the truth away from
        the data, ``gp outside`` of the exact process there, ``to gp`` between the two everywhere, ``at data`` to the
        targets; and ``sd ratio``, the mean predictive standard deviation outside over that of the exact process.

    Raises:
        ValueError: for an unknown problem, kernel or method, or options of a method that has none.
    """
    _known("toy", toy, workloads.TOYS)
    _known("kernel", kernel, workloads.TOY_KERNELS)
    _known("method", method, METHODS[1:])
    where = device_of(device)
    problem, evidence = workloads.placed(workloads.TOYS[toy](), where), workloads.toy_prior(toy, kernel).to(where)
    network = workloads.toy_network(seed, device=where)
    likelihood = Gaussian(problem.noise_sd**2, dtype=torch.float64, device=where)
    penalty = workloads.toy_penalty(problem, evidence, method, **options)
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


def piecewise_run(
    prior: str, steps_of_adam: int = 800, samples: int = 100, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Do functions of the posterior look like the prior's? Their small changes in the gap between the data.

    Args:
        prior: A key of ``PRIORS_ON_UNIT``; the Gaussian twin has the mean and covariance of the first.
        steps_of_adam: Length of the training.
        samples: Functions a step.
        seed: Of network and draws.
        device: Where to do all this.

    Returns:
        ``flat``: the share of steps of 0.01 in the gap along which a function of the posterior changes by less than
        0.01; ``prior flat``: the same of the prior's own functions; ``sd``: the mean predictive standard deviation in
        the gap; ``at data``: root mean squared error at the data.

    Raises:
        ValueError: for an unknown prior.
    """
    _known("prior", prior, workloads.PRIORS_ON_UNIT)
    where = device_of(device)
    problem, process = workloads.placed(workloads.steps(), where), workloads.PRIORS_ON_UNIT[prior](where)
    options: dict[str, Any] = {"log_sd": -1.5, "frequencies": 30, "frequency_range": (1, 40), "seed": seed}
    network = StochasticMLP([1, 50, 1], "tanh", **options, dtype=torch.float64, device=where)
    low, high = problem.grid[0], problem.grid[-1]
    penalty = FunctionSpace(process, low, high, n_random=40, injected_noise=0.02, eigenfunctions=0.9)
    likelihood = Gaussian(problem.noise_sd**2, dtype=torch.float64, device=where)
    options = {
        "steps": steps_of_adam,
        "samples": samples,
        "lr": 0.01,
        "batch_size": min(20, len(problem.x)),
        "seed": seed,
    }
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


class _AllPoints(FunctionSpace):
    """The measurement set is the same at each step: all the points of a :class:`FreeGaussian`."""

    def loss(
        self,
        network: Any,
        x: Tensor,
        y: Tensor,
        likelihood: Gaussian,
        n_data: int,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean negative log likelihood plus the KL surrogate over the number of data, which are the first points."""
        f = network.draw(samples, generator)(network.x)
        kl = kl_surrogate(f, network.x, self.prior, injected_noise=self.injected_noise, generator=generator)
        return likelihood.loss(f[:, :n_data, None], y[:, None]) + kl / n_data


def free_gaussian(steps: int = 800, samples: int = 300, seed: int = 0, device: str = "cpu") -> dict[str, float]:
    """Does functional inference find the exact posterior where q can be it? Eight points, four of them with data.

    Args:
        steps: Of Adam.
        samples: Functions a step.
        seed: Of the draws.
        device: Where to do all this.

    Returns:
        ``mean error``, the largest distance between the means of q and of the posterior; ``smallest sd`` and
        ``largest sd`` of q over the posterior's.
    """
    where = device_of(device)
    kernel = workloads.made(RBFKernel, lengthscale=0.5).requires_grad_(False).to(where)
    points = torch.tensor([-1.0, -0.3, 0.4, 1.0, -1.6, 0.0, 0.7, 1.7], dtype=torch.float64, device=where)[:, None]
    x, noise_sd, low = points[:4], 0.1, points.new_full((1,), -2.0)
    y = torch.sin(3 * x[:, 0])
    q: Any = FreeGaussian(points)
    penalty = _AllPoints(GaussianProcess(kernel), low, -low, injected_noise=0.05)
    likelihood = Gaussian(noise_sd**2, dtype=torch.float64, device=where)
    fit(q, x, y, penalty, likelihood, steps=steps, lr=0.03, samples=samples, seed=seed)
    mean, covariance = posterior(kernel, x, y, points, noise_sd)
    ratio = (q.covariance.diagonal() / covariance.diagonal()).sqrt()
    return {
        "mean error": (q.mean - mean).abs().max().item(),
        "smallest sd": ratio.min().item(),
        "largest sd": ratio.max().item(),
    }


def score_error(samples: int, eigenfunctions: int = 6, seed: int = 0) -> dict[str, float]:
    """How far is the estimated score of a standard normal from −x, on (−2, 2)? Root mean square over that of −x.

    Args:
        samples: M.
        eigenfunctions: J.
        seed: Of the samples.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    x = torch.randn(samples, 1, generator=generator, dtype=torch.float64, device="cpu")
    grid = torch.linspace(-2, 2, 81, dtype=torch.float64, device="cpu")[:, None]
    return {"error": _rms(SpectralStein(x, eigenfunctions, "scalar").score(grid) + grid) / _rms(grid)}


def forecast(
    name: str, method: str, steps: int = 1000, samples: int = 60, every: int = 1, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Fit the past of a series, predict the last years.

    Args:
        name: ``airline`` or ``co2``.
        method: One of ``METHODS``.
        steps: Of Adam.
        samples: Functions a step.
        every: Keep every so many points of the past.
        seed: Of network and draws.
        device: Where to do all this.

    Returns:
        ``rmse``, ``log_likelihood`` and ``coverage`` of the 90 % interval, in the series' units.

    Raises:
        ValueError: for an unknown method.
    """
    _known("method", method, METHODS)
    _known("name", name, ("airline", "co2"))
    where = device_of(device)
    series, evidence = workloads.prepared(name, every, where), workloads.series_prior(name, every).to(where)
    noise = max(evidence.noise_sd, 0.02)
    if method == "exact GP":
        mean, covariance = posterior(evidence.kernel, series.x, series.y, series.x_test, noise)
        f = marginal_draws(mean, covariance.diagonal(), 400, seed)
    else:
        network = workloads.series_network(series, seed)
        penalty: FunctionSpace | WeightSpace = WeightSpace(1.0)
        if method == "fBNN":
            low, high = series.x.min(0).values, series.x_test.max(0).values
            penalty = FunctionSpace(GaussianProcess(evidence.kernel), low, high, n_random=30, injected_noise=0.05)
        likelihood = Gaussian(noise**2, dtype=torch.float64, device=where)
        options: dict[str, Any] = {"steps": steps, "lr": 5e-3, "samples": samples, "seed": seed}
        options["batch_size"] = min(40, len(series.x))
        fit(network, series.x, series.y, penalty, likelihood, **options)
        f = predict(network, series.x_test)
    return regression_metrics(f[..., None], series.y_test[:, None], noise**-2, series.y_scale)


def regress(
    name: str,
    split: int,
    method: str,
    epochs: int = 200,
    samples: int = 100,
    batch_size: int = 20,
    n_random: int = 5,
    kl_scale: str = "batch",
    seed: int = 0,
    prior_steps: int = 60,
    device: str = "cpu",
) -> dict[str, float]:
    """Fit the training part of a small table and measure on its test part.

    Networks have 50 ReLU units. The noise is learnt and held above max(noise of the fitted process, 0.05).

    Args:
        name: A regression set of ``tenpapers.data``.
        split: Which standard split.
        method: One of ``METHODS``.
        epochs: Passes over the data.
        samples: Functions a step.
        batch_size: Of a step, from 1 to the number of training points.
        n_random: Random measurement points a step, from one range for all features.
        kl_scale: ``batch`` as published, or ``data``.
        seed: Of network and draws.
        prior_steps: Of the fit of the prior, from each of three starts.
        device: Where to do all this.

    Returns:
        ``rmse, log_likelihood, coverage, calibration_error`` in the data's own units.

    Raises:
        ValueError: for an unknown set or method, or a batch that is larger than the training part.

    Source: arXiv 1903.05779, section 5.2.1. Chapter: book/functional_bnn.ipynb.
    """
    _known("method", method, METHODS)
    _known("name", name, TABLES)
    where = str(device_of(device))
    data, evidence = workloads.table(name, split, where), workloads.ard_prior(name, split, prior_steps, device=where)
    x, y, scale = data.train.x, data.train.y[:, 0], data.info["y_scale"]
    floor = max(evidence.noise_sd, FLOOR)
    if not 1 <= batch_size <= len(x):
        raise ValueError(f"batch_size must be from 1 to the {len(x)} training points: got {batch_size}")
    if method == "exact GP":
        mean, covariance = posterior(evidence.kernel, x, y, data.test.x, floor)
        f = marginal_draws(mean, covariance.diagonal(), 400, seed)
        return regression_metrics(f[..., None], data.test.y, floor**-2, scale)
    likelihood = Gaussian(0.5**2, learnt=True, floor=floor, dtype=x.dtype, device=where)
    network = StochasticMLP([x.shape[1], 50, 1], "relu", log_sd=-2.0, seed=seed, dtype=x.dtype, device=where)
    penalty: FunctionSpace | WeightSpace = WeightSpace(1.0)
    if method == "fBNN":
        low, high = torch.full_like(x[0], float(x.min())), torch.full_like(x[0], float(x.max()))
        penalty = FunctionSpace(GaussianProcess(evidence.kernel), low, high, n_random=n_random, kl_scale=kl_scale)
    options: dict[str, Any] = {"lr": 3e-3, "samples": samples, "batch_size": batch_size, "seed": seed}
    fit(network, x, y, penalty, likelihood, steps=epochs * (len(x) // batch_size), **options)
    f = predict(network, data.test.x, samples=100)
    return regression_metrics(f[..., None], data.test.y, likelihood.precision.detach(), scale)


def regress_large(
    name: str,
    split: int,
    method: str,
    steps: int = 1000,
    batch_size: int = 100,
    samples: int = 30,
    kernel_steps: int = 100,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """Fit the training part of a large table by mini-batches and measure on its test part.

    Networks have 50 ReLU units. The noise is learnt and held above 0.05. Random points come from the box of the
    training inputs, widened by half its range on both sides.

    Args:
        name: A regression set of ``tenpapers.data``.
        split: Which standard split.
        method: ``weight-space VI``, ``fBNN`` (its prior has the neural kernel network), or ``GP of a subset``: the
            exact process with that kernel, given the first 1,000 training points.
        steps: Of Adam.
        batch_size: Of a step.
        samples: Functions a step.
        kernel_steps: Of the fit of the kernel.
        seed: Of network and draws.
        device: Where to do all this.

    Returns:
        ``rmse, log_likelihood, coverage, calibration_error`` in the data's own units.

    Raises:
        ValueError: for an unknown method.

    Source: arXiv 1903.05779, section 5.2.2. Chapter: book/functional_bnn.ipynb.
    """
    _known("method", method, LARGE_METHODS)
    _known("name", name, TABLES)
    where = str(device_of(device))
    data = workloads.table(name, split, where)
    x, y, scale = data.train.x, data.train.y[:, 0], data.info["y_scale"]
    if method == "GP of a subset":
        evidence = workloads.neural_prior(name, split, kernel_steps, where)
        noise_sd = max(evidence.noise_sd, FLOOR)
        parts = [posterior(evidence.kernel, x[:SUBSET], y[:SUBSET], new, noise_sd) for new in data.test.x.split(SUBSET)]
        mean = torch.cat([mean for mean, _ in parts])
        variance = torch.cat([covariance.diagonal() for _, covariance in parts])
        f, precision = marginal_draws(mean, variance, 100, seed), noise_sd**-2
    else:
        network = StochasticMLP([x.shape[1], 50, 1], "relu", log_sd=-4.0, seed=seed, dtype=x.dtype, device=where)
        likelihood = Gaussian(0.5**2, learnt=True, floor=FLOOR, dtype=x.dtype, device=where)
        penalty: FunctionSpace | WeightSpace = WeightSpace(1.0)
        if method == "fBNN":
            low, high = x.min(0).values, x.max(0).values
            half = 0.5 * (high - low)
            prior = GaussianProcess(workloads.neural_prior(name, split, kernel_steps, where).kernel)
            penalty = FunctionSpace(prior, low - half, high + half, n_random=5)
        options: dict[str, Any] = {"lr": 3e-3, "samples": samples, "batch_size": batch_size, "seed": seed}
        fit(network, x, y, penalty, likelihood, steps=steps, **options)
        f, precision = predict(network, data.test.x, samples=100), likelihood.precision.detach()
    return regression_metrics(f[..., None], data.test.y, precision, scale)


def play(bandit: Bandit, agent: str, *, every: int = 50, seed: int = 0) -> np.ndarray:
    """Cumulative regret of one agent: expected reward of the best action minus that of the one taken, summed, (T,).

    Each action is tried twice first, in turn; the agent learns then, and every so many rounds after.

    Args:
        bandit: The problem.
        agent: A key of ``AGENTS``.
        every: Rounds between two updates.
        seed: Of the agent.

    Raises:
        ValueError: for an unknown agent.
    """
    _known("agent", agent, tuple(AGENTS))
    (rounds, actions), where = bandit.rewards.shape, bandit.rewards.device
    player = AGENTS[agent](bandit.contexts.shape[1], actions, seed, where)
    taken, number = torch.empty(rounds, dtype=torch.long, device=where), torch.arange(rounds, device=where)
    for t in range(rounds):
        taken[t] = t % actions if t < 2 * actions else player.act(bandit.contexts[t])
        if t + 1 == 2 * actions or (t > 2 * actions and (t + 1) % every == 0):
            seen = bandit.rewards[number[: t + 1], taken[: t + 1]]
            player.learn(bandit.contexts[: t + 1], taken[: t + 1], seen)
    regret = bandit.expected.max(1).values - bandit.expected[number, taken]
    return regret.cumsum(0).cpu().numpy()


def bandit_run(problem: str, agent: str, rounds: int, seed: int = 0, device: str = "cpu") -> dict[str, float]:
    """Regret of one agent after all rounds, and over the last quarter of them.

    Args:
        problem: A key of ``BANDITS``.
        agent: A key of ``AGENTS``.
        rounds: T.
        seed: Of contexts, rewards and agent.
        device: Where to do all this.

    Returns:
        ``regret``, the sum; ``late``, per round, in the last quarter.

    Raises:
        ValueError: for an unknown problem or agent.
    """
    _known("problem", problem, workloads.BANDITS)
    regret = play(workloads.placed(workloads.BANDITS[problem](rounds, seed=seed), device_of(device)), agent, seed=seed)
    quarter = rounds // 4
    return {"regret": float(regret[-1]), "late": float(regret[-1] - regret[-1 - quarter]) / quarter}


def search(
    landscape: Landscape, method: str, queries: int = 10, steps: int = 16, first: int = 3, seed: int = 0
) -> Tensor:
    """Query a function again and again where the acquisition is largest.

    Args:
        landscape: What is searched.
        method: One of ``SEARCHES``.
        queries: After the first ones.
        steps: Of Adam at each query, where there is a network to train.
        first: Candidates that are drawn and queried before there is any belief, the same for all methods.
        seed: Of the first candidates, the noise, networks and draws.

    Returns:
        (queries + 1,): the largest value of the function minus the largest at any query so far, from the first ones on.

    Raises:
        ValueError: for an unknown method, or more queries than candidates.
    """
    _known("method", method, SEARCHES)
    if not 0 < first <= first + queries <= len(landscape.values):
        raise ValueError(f"first and further queries must be 1 to {len(landscape.values)}: got {first} and {queries}")
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(len(landscape.values), generator=generator, device="cpu").tolist()
    noise = torch.randn(first + queries, generator=generator, dtype=torch.float64, device="cpu").to(landscape.values)
    taken = order[:first]
    if method == "random search":
        taken = order[: first + queries]
    else:
        network = NetworkSearcher(landscape, seed, method == "fBNN", steps)
        searcher = ExactSearcher(landscape, seed) if method == "exact GP" else network
        for query in range(first, first + queries):
            y = landscape.values[taken] + landscape.noise_sd * noise[:query]
            alpha = max_value_entropy(*searcher.belief(landscape.candidates[taken], y))
            taken.append(int(alpha.argmax()))
    best = landscape.values[taken].cummax(0).values[first - 1 :]
    return landscape.values.max() - best


def search_run(
    kernel: str, d: int, method: str, queries: int = 10, steps: int = 16, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Regret along one search of a drawn function.

    Args:
        kernel: A key of ``SEARCH_KERNELS``.
        d: Dimensions.
        method: One of ``SEARCHES``.
        queries: After the first three.
        steps: Of Adam at each query, where there is a network to train.
        seed: Of everything: functions with the same seed are the same for all methods.
        device: Where to do all this.

    Returns:
        ``after 0``, ``after 2``, ...: the regret, in standard deviations of the prior, after so many queries.
    """
    landscape = workloads.placed(workloads.drawn_landscape(kernel, d, seed), device_of(device))
    regret = search(landscape, method, queries, steps, seed=seed)
    return {f"after {k}": float(regret[k]) for k in range(0, queries + 1, 2)}
