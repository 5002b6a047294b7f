"""How good are predictions on small tables? fBNN beside weight-space VI and the exact process, with one noise model.

Paper: arXiv 1903.05779, section 5.2.1. Chapter: book/functional_bnn.ipynb.
"""

import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from torch import Tensor

from nnlib.bayes import Gaussian, regression_metrics
from nnlib.functional_bnn.gp import Evidence, fit_evidence, marginal_draws, posterior
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict
from nnlib.training import Dataset
from tenpapers.data.uci import regression as table

METHODS = ("exact GP", "weight-space VI", "fBNN")
FLOOR = 0.05  # least standard deviation of the noise, for all methods


def ard_prior(x: Tensor, y: Tensor, steps: int = 60, subset: int = 400) -> Evidence:
    """An RBF kernel with one length a feature, and the noise, by the evidence of at most ``subset`` training points.

    Lengths start at the median distance along each feature times √d, the noise variance at 0.1.
    """
    x, y = x[:subset], y[:subset]
    kernel = ScaleKernel(RBFKernel(ard_num_dims=x.shape[1])).to(x)
    distances = (x[:, None] - x).abs().flatten(0, 1).median(0).values
    kernel.base_kernel.lengthscale = distances.clamp_min(0.1) * x.shape[1] ** 0.5
    return fit_evidence(kernel, x, y, 0.1**0.5, learn_noise=True, restarts=3, steps=steps)


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
) -> dict[str, float]:
    """Fit one training part and measure on its test part.

    Networks have 50 ReLU units. The noise is learnt and held above max(noise of the fitted process, 0.05).

    Args:
        name: A regression set of ``tenpapers.data``.
        split: Which standard split.
        method: One of ``METHODS``.
        epochs: Passes over the data.
        samples: Functions a step.
        batch_size: Of a step.
        n_random: Random measurement points a step.
        kl_scale: ``batch`` as published, or ``data``.
        seed: Of network and draws.

    Returns:
        ``rmse, log_likelihood, coverage, calibration_error`` in the data's own units.

    Raises:
        ValueError: for an unknown method.

    Source: arXiv 1903.05779, section 5.2.1. Chapter: book/functional_bnn.ipynb.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}: got {method!r}")
    data: Dataset = table(name, split=split).to(dtype=torch.float64)
    x, y, scale = data.train.x, data.train.y[:, 0], data.info["y_scale"]
    evidence = ard_prior(x, y)
    floor = max(evidence.noise_sd, FLOOR)
    if method == "exact GP":
        mean, covariance = posterior(evidence.kernel, x, y, data.test.x, floor)
        f = marginal_draws(mean, covariance.diagonal(), 400, seed)
        return regression_metrics(f[..., None], data.test.y, floor**-2, scale)
    likelihood = Gaussian(0.5**2, learnt=True, floor=floor, dtype=x.dtype)
    network = StochasticMLP([x.shape[1], 50, 1], "relu", log_sd=-2.0, seed=seed, dtype=x.dtype)
    penalty: FunctionSpace | WeightSpace = WeightSpace(1.0)
    if method == "fBNN":
        low, high = torch.full_like(x[0], float(x.min())), torch.full_like(x[0], float(x.max()))  # one for all features
        penalty = FunctionSpace(GaussianProcess(evidence.kernel), low, high, n_random=n_random, kl_scale=kl_scale)
    passes = epochs * (len(x) // batch_size)
    fit(
        network, x, y, penalty, likelihood, steps=passes, lr=3e-3, samples=samples, batch_size=batch_size, seed=seed
    )  # fmt: skip
    f = predict(network, data.test.x, samples=100)
    return regression_metrics(f[..., None], data.test.y, likelihood.precision.detach(), scale)
