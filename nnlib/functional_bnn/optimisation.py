"""Is the uncertainty good enough to search by? Bayesian optimisation of functions that are drawn from a known prior.

Paper: arXiv 1903.05779, section 5.4; the acquisition is that of Wang and Jegelka 2017. Chapter:
book/functional_bnn.ipynb.
"""

import math
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel
from torch import Tensor

from nnlib.bayes import Gaussian
from nnlib.functional_bnn.gp import cholesky, posterior
from nnlib.functional_bnn.kernels import ArcCosine
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.objective import uniform_points
from nnlib.functional_bnn.priors import GaussianProcess
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict

SEARCHES = ("random search", "Bayes by backprop", "fBNN", "exact GP")


def _stationary(kernel: Kernel, length: float) -> Kernel:
    kernel.lengthscale = length
    return kernel


KERNELS = {  # of functions on [−1, 1]^d, all of variance 1; lengths grow with the diagonal of the box
    "RBF": lambda d: _stationary(RBFKernel().double(), 0.3 * d**0.5),
    "Matérn ½": lambda d: _stationary(MaternKernel(nu=0.5).double(), 0.6 * d**0.5),
    "arc-cosine": lambda d: ArcCosine(3.0).double(),
}


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
        ValueError: where a standard deviation is not positive.

    Source: Wang and Jegelka 2017, equation 6. Chapter: book/functional_bnn.ipynb.

    >>> zero, one = torch.zeros(2), torch.tensor([1.0, 0.1])
    >>> [round(v, 3) for v in max_value_entropy(zero, one, torch.zeros(1)).tolist()]  # cut in half: log 2, whatever sd
    [0.693, 0.693]
    """
    if not bool((sd > 0).all()):
        raise ValueError(f"standard deviations must be positive: the smallest is {float(sd.min())}")
    gamma = (maxima[:, None] - mean) / sd  # (K, m)
    # φ/Φ and log Φ by erfcx, without the factor e^{−γ²/2} of both: far below 0 two huge terms would cancel
    tail = gamma.clamp_max(0.0)
    scaled = torch.special.erfcx(-tail / 2**0.5)  # 2 Φ(γ) e^{γ²/2}
    below = 0.5 * tail * ((2 / math.pi) ** 0.5 / scaled + tail) - (0.5 * scaled).log()
    log_cdf = torch.special.log_ndtr(gamma)
    log_pdf = -0.5 * (gamma.square() + math.log(2 * math.pi))
    above = 0.5 * gamma * (log_pdf - log_cdf).exp() - log_cdf
    return torch.where(gamma < 0, below, above).mean(0)


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


def drawn_landscape(kernel: str, d: int, seed: int = 0, candidates: int = 400) -> Landscape:
    """A function drawn from a Gaussian process at uniformly drawn points of [−1, 1]^d.

    Args:
        kernel: A key of ``KERNELS``.
        d: Dimensions, at least 1.
        seed: Of points and function.
        candidates: m.

    Raises:
        ValueError: for an unknown kernel, or d below 1.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}: got {kernel!r}")
    if d < 1:
        raise ValueError(f"d must be at least 1: got {d}")
    generator = torch.Generator("cpu").manual_seed(seed)
    one = torch.ones(d, dtype=torch.float64, device="cpu")
    points, process = uniform_points(-one, one, candidates, generator), KERNELS[kernel](d).requires_grad_(False)
    return Landscape(points, GaussianProcess(process).sample(points, 1, generator)[0], process)


Belief = tuple[Tensor, Tensor, Tensor]  # mean (m,) and standard deviation (m,) at the candidates, draws (K,) of the max


class ExactProcess:
    """The posterior of the Gaussian process with the true kernel.

    Args:
        landscape: What is searched.
        seed: Of the draws of the maximum.
    """

    def __init__(self, landscape: Landscape, seed: int):
        self.landscape, self.generator = landscape, torch.Generator("cpu").manual_seed(seed)

    def belief(self, x: Tensor, y: Tensor, samples: int = 200) -> Belief:
        """After the queries (n, d) with answers (n,)."""
        land = self.landscape
        mean, covariance = posterior(land.kernel, x, y, land.candidates, land.noise_sd)
        noise = torch.randn(samples, len(mean), generator=self.generator, dtype=mean.dtype, device="cpu")
        f = mean + noise.to(mean) @ cholesky(covariance, 1e-6).mT  # (K, m)
        return mean, covariance.diagonal().clamp_min(1e-6).sqrt(), f.amax(1)


class Network:
    """A stochastic network, trained further after each query from where it is.

    Args:
        landscape: What is searched.
        seed: Of network and draws.
        functional: Whether the KL is between functions, with the true process as prior, or between weights.
        steps: Of Adam at each query; at the first one six times as many.
    """

    def __init__(self, landscape: Landscape, seed: int, functional: bool, steps: int):
        x = landscape.candidates
        self.landscape, self.seed, self.functional, self.steps, self.queries = landscape, seed, functional, steps, 0
        options = {"log_sd": -1.5, "frequencies": 40, "frequency_range": (-5.0, 5.0), "seed": seed}
        self.network = StochasticMLP([x.shape[1], 40, 1], "tanh", **options, dtype=x.dtype, device=x.device)

    def penalty(self) -> FunctionSpace | WeightSpace:
        """What is added to the likelihood."""
        if not self.functional:
            return WeightSpace(1.0)
        one = torch.ones_like(self.landscape.candidates[0])
        return FunctionSpace(GaussianProcess(self.landscape.kernel), -one, one, n_random=20, injected_noise=0.05)

    def belief(self, x: Tensor, y: Tensor, samples: int = 200) -> Belief:
        """After the queries (n, d) with answers (n,)."""
        steps, seed = (1 if self.queries else 6) * self.steps, 1000 * self.seed + self.queries
        self.queries += 1
        likelihood = Gaussian(self.landscape.noise_sd**2, dtype=y.dtype, device=y.device)
        fit(self.network, x, y, self.penalty(), likelihood, steps=steps, lr=0.02, samples=30, seed=seed)
        f = predict(self.network, self.landscape.candidates, samples, seed=seed)  # (K, m)
        return f.mean(0), f.std(0).clamp_min(1e-3), f.amax(1)


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
    if method not in SEARCHES:
        raise ValueError(f"method must be one of {', '.join(SEARCHES)}: got {method!r}")
    if not 0 < first <= first + queries <= len(landscape.values):
        raise ValueError(f"first and further queries must be 1 to {len(landscape.values)}: got {first} and {queries}")
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(len(landscape.values), generator=generator, device="cpu").tolist()
    if method == "exact GP":
        model: ExactProcess | Network = ExactProcess(landscape, seed)
    elif method != "random search":
        model = Network(landscape, seed, method == "fBNN", steps)
    taken = order[:first]
    noise = torch.randn(first + queries, generator=generator, dtype=torch.float64, device="cpu").to(landscape.values)
    for query in range(first, first + queries):
        if method == "random search":
            taken.append(order[query])
            continue
        y = landscape.values[taken] + landscape.noise_sd * noise[:query]
        alpha = max_value_entropy(*model.belief(landscape.candidates[taken], y))
        taken.append(int(alpha.argmax()))
    best = landscape.values[taken].cummax(0).values[first - 1 :]
    return landscape.values.max() - best


def search_run(kernel: str, d: int, method: str, queries: int = 10, steps: int = 16, seed: int = 0) -> dict[str, float]:
    """Regret along one search of a drawn function.

    Args:
        kernel: A key of ``KERNELS``.
        d: Dimensions.
        method: One of ``SEARCHES``.
        queries: After the first three.
        steps: Of Adam at each query, where there is a network to train.
        seed: Of everything: functions with the same seed are the same for all methods.

    Returns:
        ``after 0``, ``after 2``, ...: the regret, in standard deviations of the prior, after so many queries.
    """
    regret = search(drawn_landscape(kernel, d, seed), method, queries, steps, seed=seed)
    return {f"after {k}": float(regret[k]) for k in range(0, queries + 1, 2)}
