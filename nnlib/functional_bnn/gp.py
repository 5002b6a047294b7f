"""What is the exact answer? Gaussian-process regression: evidence, posterior, and hyperparameters by the evidence.

Kernels are gpytorch's. Paper: arXiv 1903.05779, section 5 (priors are fitted by the evidence, then frozen).
Chapter: book/functional_bnn.ipynb.
"""

import contextlib
import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from nnlib.arguments import real, seeded, typed, whole, within
from nnlib.cholesky import NotPositiveDefinite, cholesky

LOG_2PI = math.log(2 * math.pi)
# Of standard deviations, which are squared: 1e36 is still a number in single precision.
POSITIVE, NOT_NEGATIVE = "(0, 1e18]", "[0, 1e18]"


def gram(kernel: Kernel, x: Tensor, z: Tensor | None = None) -> Tensor:
    """The matrix k(x_i, z_j), (n, d) and (m, d) -> (n, m)."""
    return kernel(x, x if z is None else z).to_dense()


def noisy_cholesky(matrix: Tensor, variance: float | Tensor) -> Tensor:
    """The Cholesky factor of K + variance · I, for kernels of low rank too.

    The diagonal also gets 10⁻⁸ of its mean or, in narrow types, 2 n rounding errors of its largest entry, as large as
    they may move the eigenvalues.

    Raises:
        NotPositiveDefinite: a ValueError, where there is still none.
    """
    rounding = 2 * len(matrix) * torch.finfo(matrix.dtype).eps
    variances = matrix.diagonal()
    jitter = variance + torch.maximum(1e-8 * variances.mean(), rounding * variances.max())
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    what = f"a covariance of {len(matrix)} points is not positive definite"
    return cholesky(matrix + jitter * eye, f"{what}: are the kernel and its inputs x finite?")


def gaussian_log_density(f: Tensor, factor: Tensor) -> Tensor:
    """log N(f; 0, LLᵀ) of each row: (S, n) and (n, n) -> (S,)."""
    white = torch.linalg.solve_triangular(factor, f.mT, upper=False)  # (n, S)
    return -0.5 * (white.square().sum(0) + len(factor) * LOG_2PI) - factor.diagonal().log().sum()


@typed
def log_evidence(kernel: Kernel, x: Tensor, y: Tensor, noise_sd: float | Tensor) -> Tensor:
    """log p(y) of y = f(x) + noise with f ~ GP(0, k): a scalar, in nats.

    Args:
        kernel: Of gpytorch.
        x: (n, d).
        y: (n,).
        noise_sd: Positive, at most 1e18, as all that is squared.

    Raises:
        TypeError: for what is no kernel, tensor or number.
        ValueError: for other shapes, numbers that are not finite, or noise that is not positive.
    """
    regression_data(x, y)
    within(POSITIVE, noise_sd=noise_sd)
    return _log_evidence(kernel, x, y, noise_sd)


def _log_evidence(kernel: Kernel, x: Tensor, y: Tensor, noise_sd: float | Tensor) -> Tensor:
    return gaussian_log_density(y[None], noisy_cholesky(gram(kernel, x), noise_sd**2))[0]


def regression_data(x: Tensor, y: Tensor) -> None:
    """Refuse what are not finite inputs (n, d) with a target each, (n,)."""
    if x.ndim != 2 or not x.numel() or y.shape != x.shape[:1] or not (x.is_floating_point() and x.dtype == y.dtype):
        found = f"{tuple(x.shape)}, {x.dtype} and {tuple(y.shape)}, {y.dtype}"
        raise ValueError(f"x must be (n, d) and y (n,), of one floating type and not empty: got {found}")
    real("...", x=x, y=y)


def points_beside(name: str, new: Tensor, x: Tensor) -> None:
    """Refuse what are not finite points (m, d) of the type of inputs x, (n, d); ``name`` is the caller's for them."""
    if new.ndim != 2 or not new.numel() or x.ndim != 2 or new.shape[1] != x.shape[1] or new.dtype != x.dtype:
        found = f"{tuple(new.shape)}, {new.dtype} beside {tuple(x.shape)}, {x.dtype}"
        raise ValueError(f"{name} must be (m, d), as x (n, d), of one floating type and not empty: got {found}")
    named: dict[str, Any] = {name: new, "x": x}
    real("...", **named)


def values_at(f: Tensor, x: Tensor) -> None:
    """Refuse what are not finite values (S, n) of functions at inputs x, (n, d); whether x is finite, a prior tells."""
    real("S n", f=f)
    real("n d", finite=False, x=x)
    if f.shape[1] != len(x):
        raise ValueError(f"f must hold one column for each of the {len(x)} inputs x: got shape {tuple(f.shape)}")


@typed
def posterior(kernel: Kernel, x: Tensor, y: Tensor, new: Tensor, noise_sd: float | Tensor) -> tuple[Tensor, Tensor]:
    """Mean (m,) and covariance (m, m) of f(new) given y = f(x) + noise.

    Args:
        kernel: Of gpytorch.
        x: (n, d).
        y: (n,).
        new: (m, d).
        noise_sd: Positive.

    Raises:
        TypeError: for what is no kernel, tensor or number.
        ValueError: for other shapes, numbers that are not finite, or noise that is not positive.

    Source: Rasmussen and Williams 2006, equations 2.23 and 2.24. Chapter: book/functional_bnn.ipynb.

    >>> from gpytorch.kernels import RBFKernel
    >>> x = torch.zeros(1, 1, dtype=torch.float64)
    >>> mean, covariance = posterior(RBFKernel().double(), x, torch.ones(1).double(), x, 1.0)
    >>> [round(v.item(), 6) for v in (mean, covariance)]  # prior variance 1, noise variance 1
    [0.5, 0.5]
    """
    regression_data(x, y)
    within(POSITIVE, noise_sd=noise_sd)
    points_beside("new", new, x)
    factor = noisy_cholesky(gram(kernel, x), noise_sd**2)
    cross = torch.linalg.solve_triangular(factor, gram(kernel, x, new), upper=False)  # (n, m)
    white = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
    return (cross.mT @ white)[:, 0], gram(kernel, new) - cross.mT @ cross


def marginal_draws(mean: Tensor, variance: Tensor, samples: int, seed: int = 0) -> Tensor:
    """Independent draws from N(mean_i, variance_i), for metrics that see marginals alone: (m,) twice -> (samples, m).

    A variance below zero by rounding counts as zero.
    """
    whole(1, samples=samples)
    generator = seeded(seed)
    normal = torch.randn(samples, len(mean), generator=generator, dtype=mean.dtype, device="cpu")
    return mean + variance.clamp_min(0).sqrt() * normal.to(mean.device)


@typed
@dataclass(frozen=True)
class Evidence:
    """A fitted prior: a kernel that is trained no further, the noise, and the log evidence they reach.

    Raises:
        ValueError: for noise that is not positive, or numbers that are not finite.
    """

    kernel: Kernel
    noise_sd: float
    log_evidence: float

    def __post_init__(self):
        within("(0, inf)", noise_sd=self.noise_sd)
        within("(-inf, inf)", log_evidence=self.log_evidence)

    def to(self, device: torch.device | str) -> "Evidence":
        """The same with a copy of the kernel on that device."""
        return replace(self, kernel=copy.deepcopy(self.kernel).to(device))


@typed
def fit_evidence(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    noise_sd: float,
    *,
    learn_noise: bool = False,
    restarts: int = 5,
    steps: int = 60,
    seed: int = 0,
) -> Evidence:
    """Hyperparameters by the evidence, the best of several starts, then frozen.

    Every start but the first multiplies each hyperparameter by e^z, z ~ N(0, 1): the evidence of a periodic kernel has
    a maximum at every multiple of the period.

    Args:
        kernel: Where to start; it is copied, not changed.
        x: (n, d).
        y: (n,).
        noise_sd: Known noise, or its start where it is learnt.
        learn_noise: Whether to fit the noise as well.
        restarts: Number of starts, at least 1.
        steps: Iterations of L-BFGS each.
        seed: Of the starts.

    Returns:
        The :class:`Evidence`; its kernel's parameters need no gradient.

    Raises:
        TypeError: for what is no kernel, tensor, number or boolean.
        ValueError: where no start reached a finite evidence; for other shapes, numbers that are not finite, noise that
            is not positive, or fewer than one start or step.

    Source: arXiv 1903.05779, section 5. Chapter: book/functional_bnn.ipynb.
    """
    regression_data(x, y)
    within(POSITIVE, noise_sd=noise_sd)
    whole(1, restarts=restarts, steps=steps)
    generator = seeded(seed)
    found = []
    for restart in range(restarts):
        trial = copy.deepcopy(kernel).requires_grad_(True)
        if restart:
            _scatter(trial, generator)
        log_noise = torch.tensor(math.log(noise_sd), dtype=y.dtype, device=y.device, requires_grad=learn_noise)
        reached = _climb(trial, log_noise, x, y, steps)
        if math.isfinite(reached):
            found.append(Evidence(trial.requires_grad_(False), math.exp(log_noise.item()), reached))
    if not found:
        raise ValueError(f"no start of {restarts} reached a finite evidence: is the kernel finite and of x's type?")
    return max(found, key=lambda evidence: evidence.log_evidence)


@torch.no_grad()
def _scatter(kernel: Kernel, generator: torch.Generator) -> None:
    for _, raw, constraint in kernel.named_parameters_and_constraints():
        factor = torch.randn(raw.shape, generator=generator, dtype=raw.dtype, device="cpu").exp().to(raw.device)
        value = raw * factor if constraint is None else constraint.inverse_transform(constraint.transform(raw) * factor)
        raw.copy_(value)


def _climb(kernel: Kernel, log_noise: Tensor, x: Tensor, y: Tensor, steps: int) -> float:
    """Maximise the evidence in place, to the best point that was seen; −∞ where there was none."""
    parameters = [p for p in (*kernel.parameters(), log_noise) if p.requires_grad]
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")
    best, reached = [p.detach().clone() for p in parameters], -math.inf

    def closure() -> Tensor:
        nonlocal best, reached
        optimizer.zero_grad()
        loss = -_log_evidence(kernel, x, y, log_noise.exp())
        loss.backward()
        if -loss.item() > reached:
            best, reached = [p.detach().clone() for p in parameters], -loss.item()
        return loss

    with contextlib.suppress(NotPositiveDefinite):  # a line search went where K has no Cholesky factor
        optimizer.step(closure)
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=True):
            parameter.copy_(value)
    return reached
