"""Does a prior with trend and season carry a network into the future? CO₂ and airline passengers.

Paper: arXiv 1903.05779, section 5.1 (structured priors). Chapter: book/functional_bnn.ipynb.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from gpytorch.kernels import LinearKernel, PeriodicKernel, RBFKernel, ScaleKernel
from torch import Tensor

from nnlib.bayes import Gaussian, regression_metrics
from nnlib.functional_bnn.gp import Evidence, fit_evidence, posterior
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict
from tenpapers.data import load


class Series(NamedTuple):
    """A series in standard units of its first part, years and values; the last years are for testing."""

    x: Tensor  # (n, 1)
    y: Tensor  # (n,)
    x_test: Tensor  # (m, 1)
    y_test: Tensor  # (m,)
    year: float  # one year in units of x
    y_scale: float
    source: str


def prepared(name: str, every: int = 1) -> Series:
    """A series: training and validation parts together are the past, each ``every``-th point kept."""
    data = load(name).to(dtype=torch.float64)
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
        data.source,
    )


@lru_cache
def series_prior(name: str, every: int = 1) -> Evidence:
    """Trend + season + slow change: a linear, a periodic of one year and an RBF kernel, fitted by the evidence.

    The period starts at one year; everything else, and the noise, is found from two starts.
    """
    series = prepared(name, every)
    season = ScaleKernel(PeriodicKernel())
    season.base_kernel.period_length = series.year
    kernel = (LinearKernel() + season + ScaleKernel(RBFKernel())).double()
    return fit_evidence(kernel, series.x, series.y, 0.1, learn_noise=True, restarts=1, steps=40)


def forecast(name: str, method: str, steps: int = 1000, samples: int = 60, every: int = 1, seed: int = 0) -> dict:
    """Fit the past, predict the last years.

    Networks see their input through 60 random Fourier features whose periods reach down to two thirds of a year.

    Args:
        name: ``airline`` or ``co2``.
        method: ``exact GP``, ``fBNN`` or ``weight-space VI``.
        steps: Of Adam.
        samples: Functions a step.
        every: Keep every so many points of the past.
        seed: Of network and draws.

    Returns:
        ``rmse``, ``log_likelihood`` and ``coverage`` of the 90 % interval, in the series' units.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in ("exact GP", "fBNN", "weight-space VI"):
        raise ValueError(f"method must be 'exact GP', 'fBNN' or 'weight-space VI': got {method!r}")
    series, evidence = prepared(name, every), series_prior(name, every)
    noise = max(evidence.noise_sd, 0.02)
    if method == "exact GP":
        mean, covariance = posterior(evidence.kernel, series.x, series.y, series.x_test, noise)
        normal = torch.randn(400, len(mean), generator=torch.Generator("cpu").manual_seed(seed), dtype=mean.dtype)
        f = mean + covariance.diagonal().clamp_min(0).sqrt() * normal
    else:
        highest = 2 * math.pi / (series.year / 1.5)
        network = StochasticMLP(
            [1, 50, 1], "tanh", log_sd=-4.0, frequencies=60, frequency_range=(0.2, highest), seed=seed,
            dtype=torch.float64,
        )  # fmt: skip
        low, high = series.x.min(0).values, series.x_test.max(0).values
        penalty: FunctionSpace | WeightSpace = WeightSpace(1.0)
        if method == "fBNN":
            penalty = FunctionSpace(GaussianProcess(evidence.kernel), low, high, n_random=30, injected_noise=0.05)
        likelihood = Gaussian(noise**2, dtype=torch.float64)
        fit(network, series.x, series.y, penalty, likelihood, steps=steps, lr=5e-3, samples=samples, batch_size=40,
            seed=seed)  # fmt: skip
        f = predict(network, series.x_test)
    found = regression_metrics(f[..., None], series.y_test[:, None], noise**-2, series.y_scale)
    return {key: found[key] for key in ("rmse", "log_likelihood", "coverage")}
