"""Where to look next for the largest value of a function? Max-value entropy, and the beliefs that it is fed with.

Paper: arXiv 1903.05779, section 5.4; the acquisition is that of Wang and Jegelka 2017. Chapter:
book/functional_bnn.ipynb.
"""

import math
from typing import NamedTuple

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from nnlib.arguments import real, typed, whole
from nnlib.functional_bnn.gp import noisy_cholesky, points_beside, posterior, regression_data
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.train import one_output, predict


class Belief(NamedTuple):
    """What is thought of a function f at m candidates."""

    mean: Tensor  # (m,)
    sd: Tensor  # (m,), positive
    maxima: Tensor  # (K,), draws of the largest value at the candidates


FAR = 300.0  # deviations below the mean from which on a series is exact to more digits than the formula


@typed
def max_value_entropy(mean: Tensor, sd: Tensor, maxima: Tensor) -> Tensor:
    """How many nats would a look at f(x) tell about the largest value of f? Max-value entropy search.

        α(x) = mean over f* of  γ φ(γ) / (2 Φ(γ)) − log Φ(γ),   γ = (f* − mean(x)) / sd(x):

    the entropy of N(mean, sd²) minus that of the same normal cut off above f*, averaged over draws f* of the maximum.

    Args:
        mean: (m,), of f at the candidates.
        sd: (m,), positive.
        maxima: (K,), draws of max f.

    Returns:
        (m,), not negative.

    Raises:
        TypeError: for what is no tensor of floating-point numbers.
        ValueError: where a standard deviation is not positive, shapes differ, or a number is not finite.

    Source: Wang and Jegelka 2017, equation 6. Chapter: book/functional_bnn.ipynb.

    >>> zero, one = torch.zeros(2), torch.tensor([1.0, 0.1])
    >>> [round(v, 3) for v in max_value_entropy(zero, one, torch.zeros(1)).tolist()]  # cut in half: log 2, whatever sd
    [0.693, 0.693]
    """
    if mean.ndim != 1 or sd.shape != mean.shape or maxima.ndim != 1 or not len(maxima):
        shapes = ", ".join(str(tuple(part.shape)) for part in (mean, sd, maxima))
        raise ValueError(f"mean and sd must be (m,) and maxima (K,), K at least 1: got {shapes}")
    real("...", mean=mean, sd=sd, maxima=maxima)
    if not bool((sd > 0).all()):
        raise ValueError(f"sd must be positive: the smallest is {float(sd.min())}")
    gamma = (maxima[:, None] - mean) / sd  # (K, m)
    # φ/Φ and log Φ by erfcx, without the factor e^{−γ²/2} of both: far below 0 two huge terms would cancel
    tail = gamma.clamp_max(0.0)
    scaled = torch.special.erfcx(-tail / 2**0.5)  # 2 Φ(γ) e^{γ²/2}
    cut = 0.5 * tail * ((2 / math.pi) ** 0.5 / scaled + tail)  # γ (φ/Φ + γ)/2, whose two terms cancel at last
    inverse = tail.clamp_max(-FAR) ** -2
    cut = torch.where(tail < -FAR, -0.5 + inverse - 5 * inverse.square(), cut)
    below = cut - (0.5 * scaled).log()
    log_cdf = torch.special.log_ndtr(gamma)
    log_pdf = -0.5 * (gamma.square() + math.log(2 * math.pi))
    above = 0.5 * gamma * (log_pdf - log_cdf).exp() - log_cdf
    return torch.where(gamma < 0, below, above).mean(0)


@typed
def process_belief(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    candidates: Tensor,
    noise_sd: float,
    samples: int = 200,
    *,
    generator: torch.Generator,
) -> Belief:
    """What a Gaussian process says of the candidates, after queries x with answers y.

    Args:
        kernel: Of the process, of mean 0.
        x: (n, d).
        y: (n,), f(x) with noise.
        candidates: (m, d).
        noise_sd: Of y, positive.
        samples: K, functions that are drawn for their largest value.
        generator: Of the draws.

    Raises:
        TypeError: for what is no kernel, tensor, number or generator.
        ValueError: as :func:`nnlib.functional_bnn.posterior`, or for fewer than one function.

    >>> from gpytorch.kernels import RBFKernel
    >>> x, draws = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None], torch.Generator().manual_seed(0)
    >>> belief = process_belief(RBFKernel().double(), x[:2], torch.ones(2).double(), x, 0.1, generator=draws)
    >>> [tuple(part.shape) for part in belief], tuple(max_value_entropy(*belief).shape)
    ([(5,), (5,), (200,)], (5,))
    """
    whole(1, samples=samples)
    regression_data(x, y)
    points_beside("candidates", candidates, x)
    mean, covariance = posterior(kernel, x, y, candidates, noise_sd)
    noise = torch.randn(samples, len(mean), generator=generator, dtype=mean.dtype, device="cpu")
    f = mean + noise.to(mean) @ noisy_cholesky(covariance, 1e-6).mT  # (K, m)
    return Belief(mean, covariance.diagonal().clamp_min(1e-6).sqrt(), f.amax(1))


@typed
def network_belief(network: StochasticMLP, candidates: Tensor, samples: int = 200, seed: int = 1) -> Belief:
    """What a stochastic network, trained on the queries, says of the candidates.

    Args:
        network: A random function with one output.
        candidates: (m, d).
        samples: K, functions from which all three are estimated, at least 2.
        seed: Of the draws.

    Raises:
        TypeError: for what is no network, tensor or number.
        ValueError: for candidates of another shape or not finite, a network of several outputs, one function alone, or
            another seed.
    """
    real("m d", {"d": len(network.omega)}, candidates=candidates)
    whole(2, samples=samples)
    f = one_output(predict(network, candidates, samples, seed=seed), candidates)  # (K, m)
    return Belief(f.mean(0), f.std(0).clamp_min(1e-3), f.amax(1))
