"""Can the core of a bottleneck be depthwise? A low-rank decomposition of its kernel, by alternating least squares.

The core's weights W (out, in, k k) are fitted by sum_r U_or V_ir D_rt: the core becomes one kernel for each of r
channels, and U and V go into the rotations around it.
Paper: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import real, seeded, typed, whole
from nnlib.eigendamage.bottleneck import Bottleneck, filled, pointwise, replace


@typed
def cp(W: Tensor, rank: int, *, sweeps: int = 100, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The decomposition W_oit ~ sum_r U_or V_ir D_tr by alternating least squares (CP, PARAFAC).

    Each third of a sweep solves for one factor exactly, so the error never grows. The minimum that is found depends
    on the start, which is drawn.

    Args:
        W: (o, i, t).
        rank: r, at least 1.
        sweeps: Number of sweeps, at least 1.
        seed: Of the start.

    Returns:
        U (o, r), V (i, r), D (t, r).

    Raises:
        ValueError: for another number of dimensions, numbers that are not finite, or a rank or sweeps below 1.

    Source: Carroll and Chang 1970, Harshman 1970; arXiv 1905.05934 for its use. Chapter: ``book/eigendamage.ipynb``.

    >>> U, V, D = cp(torch.ones(3, 4, 9), rank=1)
    >>> torch.allclose(torch.einsum("or,ir,tr->oit", U, V, D), torch.ones(3, 4, 9), atol=1e-5)
    True
    """
    real("o i t", W=W)
    whole(1, rank=rank, sweeps=sweeps)
    generator = seeded(seed)
    start = (torch.randn(n, rank, generator=generator, dtype=torch.float64, device="cpu") for n in W.shape)
    U, V, D = (factor.to(W) for factor in start)
    for _ in range(sweeps):
        U = _solve(torch.einsum("oit,ir,tr->or", W, V, D), V, D)
        V = _solve(torch.einsum("oit,or,tr->ir", W, U, D), U, D)
        D = _solve(torch.einsum("oit,or,ir->tr", W, U, V), U, V)
    return U, V, D


def _solve(right: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """The least-squares factor: right (one'one * other'other)^+, the normal equations of the unfolding."""
    return right @ torch.linalg.pinv((one.T @ one) * (other.T @ other), hermitian=True)


@typed
@torch.no_grad()
def separate(model: nn.Module, *, rank: int | None = None, sweeps: int = 100, seed: int = 0) -> nn.Module:
    """A copy of the model in which every bottleneck of a k x k convolution, k > 1, has a depthwise core.

    input <- V' input, core <- r kernels D, output <- output U. An approximation: fine-tune afterwards.

    Args:
        model: With :class:`Bottleneck` layers; left as it is.
        rank: r; by default the smaller of the core's inputs and outputs.
        sweeps: Of :func:`cp`.
        seed: Of :func:`cp`.

    Returns:
        The copy. Bottlenecks whose core is 1 x 1, linear or depthwise already stay.

    Raises:
        ValueError: for a model without such a bottleneck, or numbers out of range.

    Source: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
    """
    whole(1, rank=1 if rank is None else rank, sweeps=sweeps)
    seeded(seed)
    model = copy.deepcopy(model)
    found = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, Bottleneck)
        and isinstance(layer.core, nn.Conv2d)
        and layer.core.groups == 1
        and layer.core.weight[0, 0].numel() > 1
    }
    if not found:
        raise ValueError("the model has no bottleneck with a k x k convolution: prune it with EigenDamage first")
    for name, layer in found.items():
        core = layer.core
        assert isinstance(core, nn.Conv2d)  # that is how they were found
        r = rank or min(core.weight.shape[:2])
        U, V, D = cp(core.weight.detach().flatten(2), r, sweeps=sweeps, seed=seed)
        shape: dict[str, Any] = {"stride": core.stride, "padding": core.padding, "dilation": core.dilation}
        shape |= {"padding_mode": core.padding_mode, "bias": False, "device": "meta"}
        kernel = (core.kernel_size[0], core.kernel_size[1])
        depthwise = nn.Conv2d(r, r, kernel, groups=r, **shape)
        kernels = D.T.reshape(r, 1, *kernel)
        first = torch.einsum("ir,i...->r...", V, layer.input.weight)
        last = torch.einsum("oc...,cr->or...", layer.output.weight, U)
        outer = pointwise(layer.input, first, None), pointwise(layer.output, last, layer.output.bias)
        replace(model, name, Bottleneck(outer[0], filled(depthwise, kernels, None, core), outer[1]))
    return model
