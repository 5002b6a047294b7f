"""Which functions do we expect? Priors over functions: Gaussian processes, and processes that can only be sampled.

Paper: arXiv 1903.05779, sections 3 and 5.1. Chapter: book/functional_bnn.ipynb.
"""

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from nnlib.arguments import real, typed, whole, within
from nnlib.functional_bnn.gp import NOT_NEGATIVE, gaussian_log_density, gram, noisy_cholesky, values_at


@typed
class GaussianProcess:
    """A Gaussian-process prior with a constant mean and a kernel of gpytorch, whose density is known.

    Args:
        kernel: Its hyperparameters are not trained by the functional ELBO: fit them by ``fit_evidence`` before.
        mean: The constant.

    Raises:
        TypeError: for what is no kernel, tensor, number or generator.
        ValueError: for a mean that is not finite; from its methods, for other shapes, negative noise, or inputs or
            values that are not finite.

    >>> from gpytorch.kernels import RBFKernel
    >>> prior = GaussianProcess(RBFKernel().double())
    >>> x = torch.linspace(0, 1, 4, dtype=torch.float64)[:, None]
    >>> prior.sample(x, 3, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 4])
    """

    def __init__(self, kernel: Kernel, mean: float = 0.0):
        within("(-inf, inf)", mean=mean)
        self.kernel, self.mean = kernel, mean

    @typed
    def log_density(self, f: Tensor, x: Tensor, injected_noise: float = 0.0) -> Tensor:
        """log N(f; mean, K(x, x) + γ² I) of each row: (S, n) and (n, d) -> (S,)."""
        within(NOT_NEGATIVE, injected_noise=injected_noise)
        values_at(f, x)
        return gaussian_log_density(f - self.mean, noisy_cholesky(gram(self.kernel, x), injected_noise**2))

    @typed
    def sample(self, x: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Function values at x: (n, d) -> (samples, n)."""
        whole(1, samples=samples)
        real("n d", finite=False, x=x)  # the Cholesky factor tells the rest
        factor = noisy_cholesky(gram(self.kernel, x), 0.0)
        noise = torch.randn(samples, len(x), generator=generator, dtype=x.dtype, device="cpu").to(x.device)
        return self.mean + noise @ factor.mT


@typed
class _Knots:
    """A random number of knots on [0, 1], Poisson(rate), with values between them uniform on [0, 1]."""

    def __init__(self, rate: float = 3.0):
        within("(0, 1e5]", rate=rate)
        self.rate = rate

    def _draw(self, x: Tensor, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sorted knots (S, n_max), those beyond a function's own number at 1; values (S, n_max + 2)."""
        whole(1, samples=samples)
        real("n 1", finite=False, x=x)
        if not bool(((x >= 0) & (x <= 1)).all()):
            raise ValueError(f"x must be in [0, 1], where piecewise priors live: got {x.min():g} to {x.max():g}")
        rates = torch.full((samples, 1), self.rate, dtype=torch.float64, device="cpu")
        number = torch.poisson(rates, generator=generator).long()  # (S, 1)
        most = max(1, int(number.max()))
        knots = torch.rand(samples, most, generator=generator, dtype=x.dtype, device="cpu")
        knots = torch.where(torch.arange(most, device="cpu") < number, knots, 1.0).sort(1).values
        values = torch.rand(samples, most + 2, generator=generator, dtype=x.dtype, device="cpu")
        return knots.to(x.device), values.to(x.device)


class PiecewiseConstant(_Knots):
    """Jumps at Poisson(rate) places, uniform on [0, 1]; between jumps a constant, uniform on [0, 1].

    Its mean is ½ and its covariance e^{−rate |x − x'|}/12: that of an Ornstein–Uhlenbeck process, whose functions look
    nothing like it.

    Args:
        rate: The mean number of jumps, in (0, 1e5], for each is drawn.

    Raises:
        TypeError: for what is no number; from ``sample``, for what is no tensor or generator.
        ValueError: for another rate; from ``sample``, for inputs that are not (n, 1) in [0, 1].

    Source: arXiv 1903.05779, section 5.1.2. Chapter: book/functional_bnn.ipynb.

    >>> x = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    >>> PiecewiseConstant().sample(x, 5, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 2])
    """

    @typed
    def sample(self, x: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Function values at x in [0, 1]: (n, 1) -> (samples, n)."""
        knots, values = self._draw(x, samples, generator)
        piece = torch.searchsorted(knots, x[:, 0].expand(samples, -1).contiguous(), right=False)
        return values.gather(1, piece)  # at x = 1 the knots that were put aside do not count: x is not beyond them


class PiecewiseLinear(_Knots):
    """Poisson(rate) knots, uniform on [0, 1], and both ends; uniform values on [0, 1] there, straight lines between.

    Args:
        rate: The mean number of knots inside, in (0, 1e5], for each is drawn.

    Raises:
        TypeError: for what is no number; from ``sample``, for what is no tensor or generator.
        ValueError: for another rate; from ``sample``, for inputs that are not (n, 1) in [0, 1].

    Source: arXiv 1903.05779, section 5.1.2. Chapter: book/functional_bnn.ipynb.
    """

    @typed
    def sample(self, x: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Function values at x in [0, 1]: (n, 1) -> (samples, n)."""
        knots, values = self._draw(x, samples, generator)
        knots = torch.cat([torch.zeros_like(knots[:, :1]), knots, torch.ones_like(knots[:, :1])], 1)  # (S, n_max + 2)
        right = torch.searchsorted(knots, x[:, 0].expand(samples, -1).contiguous()).clamp_min(1)  # first knot ≥ x
        left = right - 1
        a, b = knots.gather(1, left), knots.gather(1, right)
        share = (x[:, 0] - a) / (b - a).clamp_min(torch.finfo(x.dtype).tiny)
        return values.gather(1, left) * (1 - share) + values.gather(1, right) * share
