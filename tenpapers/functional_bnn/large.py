"""Does it work on a large table? Mini-batches, and a prior whose kernel is learnt from subsets of the data.

Paper: arXiv 1903.05779, section 5.2.2. Chapter: book/functional_bnn.ipynb.
"""

from functools import lru_cache

import torch

from nnlib.bayes import Gaussian, regression_metrics
from nnlib.functional_bnn.gp import Evidence, marginal_draws, posterior
from nnlib.functional_bnn.kernels import NeuralKernelNetwork, fit_on_subsets
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict
from nnlib.training import Dataset
from tenpapers.data.uci import regression as table
from tenpapers.functional_bnn.regression import FLOOR

METHODS = ("GP of a subset", "weight-space VI", "fBNN")
SUBSET = 1000  # training points that the exact process is given


@lru_cache(maxsize=1)
def neural_prior(name: str, split: int, steps: int) -> Evidence:
    """A neural kernel network fitted to the training part of a split, by subsets of 200 points.

    Lengths start at √d (features have variance 1), the noise variance at 0.1.
    """
    data = table(name, split=split).to(dtype=torch.float64)
    d = data.train.x.shape[1]
    kernel = NeuralKernelNetwork(d, lengthscale=d**0.5).double()
    return fit_on_subsets(kernel, data.train.x, data.train.y[:, 0], 0.1**0.5, steps=steps)


def regress_large(
    name: str,
    split: int,
    method: str,
    steps: int = 1000,
    batch_size: int = 100,
    samples: int = 30,
    kernel_steps: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Fit one training part by mini-batches and measure on its test part.

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

    Returns:
        ``rmse, log_likelihood, coverage`` in the data's own units.

    Raises:
        ValueError: for an unknown method.

    Source: arXiv 1903.05779, section 5.2.2. Chapter: book/functional_bnn.ipynb.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}: got {method!r}")
    data: Dataset = table(name, split=split).to(dtype=torch.float64)
    x, y, scale = data.train.x, data.train.y[:, 0], data.info["y_scale"]
    if method == "GP of a subset":
        evidence = neural_prior(name, split, kernel_steps)
        noise_sd = max(evidence.noise_sd, FLOOR)
        parts = [posterior(evidence.kernel, x[:SUBSET], y[:SUBSET], new, noise_sd) for new in data.test.x.split(SUBSET)]
        mean = torch.cat([mean for mean, _ in parts])
        variance = torch.cat([covariance.diagonal() for _, covariance in parts])
        f, precision = marginal_draws(mean, variance, 100, seed), noise_sd**-2
    else:
        network = StochasticMLP([x.shape[1], 50, 1], "relu", log_sd=-4.0, seed=seed, dtype=x.dtype)
        likelihood = Gaussian(0.5**2, learnt=True, floor=FLOOR, dtype=x.dtype)
        penalty: FunctionSpace | WeightSpace = WeightSpace(1.0)
        if method == "fBNN":
            low, high = x.min(0).values, x.max(0).values
            half = 0.5 * (high - low)
            prior = GaussianProcess(neural_prior(name, split, kernel_steps).kernel)
            penalty = FunctionSpace(prior, low - half, high + half, n_random=5)
        options = {"steps": steps, "lr": 3e-3, "samples": samples, "batch_size": batch_size, "seed": seed}
        fit(network, x, y, penalty, likelihood, **options)
        f, precision = predict(network, data.test.x, samples=100), likelihood.precision.detach()
    found = regression_metrics(f[..., None], data.test.y, precision, scale)
    return {key: found[key] for key in ("rmse", "log_likelihood", "coverage")}
