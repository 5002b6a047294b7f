"""Which kernels does gpytorch not have? That of infinitely many threshold units, and a network of kernels.

Paper: arXiv 1903.05779, sections 5.2.2 and 5.4. Chapter: book/functional_bnn.ipynb.
"""

import copy
import math
from typing import cast

import gpytorch
import torch
from gpytorch.constraints import Positive
from gpytorch.kernels import Kernel, LinearKernel, RBFKernel, RQKernel
from linear_operator import to_dense
from torch import Tensor, nn

from nnlib.arguments import real, seeded, typed, whole, within
from nnlib.descent import descend
from nnlib.functional_bnn.gp import POSITIVE, Evidence, log_evidence, regression_data


@typed
class ArcCosine(Kernel):
    """k(x, z) = 1 − θ/π with θ the angle between (w x, 1) and (w z, 1): the arc-cosine kernel of order 0.

    It is the covariance of a network of infinitely many hidden units that jump from 0 to 1 across random Gaussian
    directions, and whose output weights have mean 0: rough functions, like those of a Matérn ½ kernel.

    Args:
        scale: w, in (0, 1e15], for scaled inputs are squared: large, and angles turn fast near the origin.

    Raises:
        ValueError: for another scale.

    Source: Cho and Saul 2009, order 0. Chapter: book/functional_bnn.ipynb.

    >>> x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    >>> ArcCosine().double()(x).to_dense()  # (−1, 1) and (1, 1) stand at a right angle
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]], dtype=torch.float64)
    """

    def __init__(self, scale: float = 1.0):
        within("(0, 1e15]", scale=scale)
        super().__init__()
        self.scale = scale

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params) -> Tensor:
        """(n, d) and (m, d) -> (n, m), or (n,) of pairs where ``diag``."""
        u, v = self._unit(x1), self._unit(x2)
        if not diag:
            u, v = u.unsqueeze(-2), v.unsqueeze(-3)  # (n, 1, d + 1), (1, m, d + 1)
        # not acos: near 1 it turns a rounding error of 1e-16 into an angle of 1e-8
        angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
        return 1 - angle / math.pi

    def _unit(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(nn.functional.pad(self.scale * x, (0, 1), value=1.0), dim=-1)


@typed
class NeuralKernelNetwork(Kernel):
    """A kernel that is a small network of kernels, with positive weights; sums and products of kernels are kernels.

        two linear, two RBF, two rational quadratic  →  8 sums  →  4 products of neighbours
                                                     →  4 sums  →  2 products  →  1 sum

    Each sum is Σ w k + b with w, b > 0. Every primitive has one length (or variance) a feature; the two rational
    quadratics start at the exponents 0.1 and 1.

    Args:
        d: Features of an input.
        lengthscale: Where lengths start, one for all features or (d,), from 1e-18 to 1e18.
        seed: Of the first weights: around 1/inputs, and different, for equal units would stay equal.

    Raises:
        TypeError: for what is no number.
        ValueError: where d is below 1, or lengths are of another shape or out of range.

    Source: Sun, Zhang, Wang, Zeng, Li, Grosse 2018 (arXiv 1806.04326); arXiv 1903.05779, section 5.2.2.
    Chapter: book/functional_bnn.ipynb.

    >>> x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    >>> K = NeuralKernelNetwork(1).double()(x).to_dense()
    >>> K.shape, bool((torch.linalg.eigvalsh(K) > -1e-12).all())
    (torch.Size([5, 5]), True)
    """

    def __init__(self, d: int, lengthscale: float | Tensor = 1.0, seed: int = 0):
        whole(1, d=d)
        lengths = lengthscale if isinstance(lengthscale, Tensor) and lengthscale.numel() != 1 else None
        if lengths is not None:
            real("d", {"d": d}, lengthscale=lengths)
        for length in [lengthscale] if lengths is None else lengths:
            within("[1e-18, 1e18]", lengthscale=length)
        super().__init__()
        primitives = [kernel(ard_num_dims=d) for kernel in (LinearKernel, RBFKernel, RQKernel) for _ in range(2)]
        for kernel in primitives[2:]:
            kernel.initialize(lengthscale=lengthscale)
        primitives[4].initialize(alpha=0.1)
        primitives[5].initialize(alpha=1.0)
        self.primitives = nn.ModuleList(primitives)
        generator = seeded(seed)
        self.sums = nn.ModuleList([PositiveSums(6, 8, generator), PositiveSums(4, 4, generator)])
        self.last = PositiveSums(2, 1, generator)

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params) -> Tensor:
        """(n, d) and (m, d) -> (n, m), or (n,) of pairs where ``diag``."""
        k = torch.stack([to_dense(kernel(x1, x2, diag=diag, **params)) for kernel in self.primitives])  # (6, n, m)
        for sums in self.sums:
            k = sums(k)  # (8, n, m), then (4, n, m)
            k = k[0::2] * k[1::2]  # neighbours in pairs: half as many
        return cast(Tensor, self.last(k))[0]


class PositiveSums(gpytorch.Module):
    """k_o = Σ_i w_oi k_i + b_o with w, b > 0.

    Args:
        n_in: Kernels before.
        n_out: Kernels after.
        generator: Of the first weights.
    """

    raw_weight: nn.Parameter  # (n_out, n_in)
    raw_bias: nn.Parameter  # (n_out,)
    raw_weight_constraint: Positive
    raw_bias_constraint: Positive

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator):
        super().__init__()
        start = (0.5 + torch.rand(n_out, n_in, generator=generator, device="cpu")) / n_in
        for name, value in (("raw_weight", start), ("raw_bias", torch.full((n_out,), 0.01, device="cpu"))):
            self.register_parameter(name, nn.Parameter(torch.zeros_like(value)))
            self.register_constraint(name, Positive())
            self.set(name, value)

    @torch.no_grad()
    def set(self, name: str, value: Tensor) -> None:
        """Make a parameter, ``raw_weight`` or ``raw_bias``, stand for this positive value."""
        constraint = self.constraint_for_parameter_name(name)
        assert constraint is not None
        getattr(self, name).copy_(constraint.inverse_transform(value))

    def forward(self, k: Tensor) -> Tensor:
        """(n_in, ...) -> (n_out, ...)."""
        weight = self.raw_weight_constraint.transform(self.raw_weight)
        bias = self.raw_bias_constraint.transform(self.raw_bias)
        return torch.tensordot(weight, k, 1) + bias.view(-1, *[1] * (k.ndim - 1))


@typed
def fit_on_subsets(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    noise_sd: float,
    *,
    subset: int = 200,
    steps: int = 100,
    lr: float = 0.05,
    seed: int = 0,
) -> Evidence:
    """Hyperparameters and noise by the evidence of random subsets, a new one at each step of Adam, then frozen.

    The evidence of n points costs n³; that of a subset is not an unbiased estimate of it, but it is largest for a
    kernel that describes the function at the distances that a subset shows.

    Args:
        kernel: Where to start; it is copied, not changed.
        x: (n, d).
        y: (n,).
        noise_sd: Where the noise starts, positive.
        subset: Points a step, at least 1; all of them where there are fewer.
        steps: Of Adam, at least 1.
        lr: Its learning rate, positive.
        seed: Of the subsets.

    Returns:
        The :class:`Evidence`; ``log_evidence`` is that of the last subset, before its step.

    Raises:
        TypeError: for what is no kernel, tensor or number.
        ValueError: for other shapes, data that are not finite, or a number out of its range; and where the last step
            left no finite kernel and noise.
        nnlib.modes.NonFiniteLoss: at the first evidence that is not finite, by its step.

    Source: arXiv 1903.05779, section 5.2.2. Chapter: book/functional_bnn.ipynb.
    """
    regression_data(x, y)
    within(POSITIVE, noise_sd=noise_sd)
    within("(0, inf)", lr=lr)
    whole(1, subset=subset, steps=steps)
    kernel = copy.deepcopy(kernel).requires_grad_(True)
    log_noise = torch.tensor(math.log(noise_sd), dtype=y.dtype, device=y.device, requires_grad=True)
    generator = seeded(seed)
    last = y.new_zeros(())

    def loss() -> Tensor:
        nonlocal last
        rows = torch.randperm(len(x), generator=generator, device="cpu")[:subset].to(x.device)
        last = log_evidence(kernel, x[rows], y[rows], log_noise.exp())
        return -last / len(rows)

    descend(loss, torch.optim.Adam([*kernel.parameters(), log_noise], lr), steps)
    noise = log_noise.detach().exp().item()
    if not (0 < noise < math.inf and all(p.isfinite().all() for p in kernel.parameters())):
        raise ValueError(f"lr must be smaller: with {lr} the last step left a kernel or noise that is not finite")
    return Evidence(kernel.requires_grad_(False), noise, last.item())
