"""The convolution that keeps the norm of every gradient, whatever its parameters are.

Paper: Li et al., arXiv 1911.00937, section 4. Chapter: book/bcop.ipynb.
"""

import math
import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import shown, typed, whole
from nnlib.bcop.convolution import LipschitzConv
from nnlib.bcop.kernels import bcop_kernel, block_convolution, orthogonality_residual
from nnlib.lipschitz import bjorck
from nnlib.lipschitz.layers import TRAINING_TOLERANCE
from nnlib.lipschitz.norms import phases


@typed
class BCOPConv(LipschitzConv):
    """The orthogonal convolution of Li et al.: every singular value is 1, before, during and after training.

    The kernel is made of a matrix H with orthonormal rows or columns and 2 (k - 1) projectors, all from Björck's
    iteration (see :func:`nnlib.bcop.bcop_kernel`). With stride 1 and c_in <= c_out the layer keeps the norm of every
    input, with c_out <= c_in that of every gradient.

    A stride s that does not divide k > s: an orthogonal convolution of k - s + 1 taps along each axis, then one with
    s x s taps and stride s. The patches of the second don't overlap, so that it is a matrix with orthonormal rows or
    columns, and both together are one convolution of k x k taps. Dilation passes the same frequencies in another
    order, and groups are orthogonal convolutions side by side: both keep every singular value.

    Args:
        c_in: As for all layers here; so are c_out, kernel_size and the options.
        rank: Of the projectors, one number or one for each of the 2 (k / s - 1), or 2 (k - s) where s does not divide
            k; by default half of the channels that they act on, the choice of Theorem 2. A layer never leaves the
            component of the orthogonal convolutions that the ranks put it in.
        trainable: False freezes the random kernel (the paper's BCOP-Fixed); the bias is trained.

    Raises:
        ValueError: a rank out of range, or a stride larger than the kernel, which would leave out pixels.

    Warns:
        UserWarning: for a single channel; in forward, with the true singular values, for zero padding, under which no
            layer is orthogonal, and for images smaller than the kernel, on which it still is.

    Source: arXiv 1911.00937, section 4. Chapter: book/bcop.ipynb

    >>> layer = BCOPConv(2, 4, 3, seed=0).eval()
    >>> bound, residual = layer.lipschitz_bound()
    >>> abs(bound - 1) < 1e-5, residual < 1e-5
    (True, True)
    >>> x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> round((layer(x).norm() / x.norm()).item(), 4)
    1.0
    """

    any_geometry = True
    kept: Tensor | None

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        *,
        rank: int | Sequence[int] | None = None,
        trainable: bool = True,
        **more: Any,
    ):
        self.asked, self.trainable = rank, trainable
        super().__init__(c_in, c_out, kernel_size, **more)
        del self.asked
        if max(self.shape[:2]) == 1:
            warnings.warn(
                "with one channel in and out an orthogonal convolution can only shift the image", stacklevel=2
            )

    def build(self) -> None:
        c_out, c_in, k, _ = self.shape
        c_out, s = c_out // self.groups, self.stride
        overlaps = self.kernel_size % s > 0
        if overlaps:  # c_in channels to as many as the patches need, then s x s patches of these to c_out
            c_in, k = c_in // s**2, self.kernel_size - s + 1
            between = max(c_in, c_out // s**2)
            self.raw_patches = nn.Parameter(self._drawn(c_out, between * s**2), requires_grad=self.trainable)
            c_out = between
        c, count = max(c_out, c_in), 2 * (k - 1)
        rank: Any = c // 2 if self.asked is None else self.asked
        asked: Any = [rank] if isinstance(rank, Integral) else list(rank)
        for r in asked:
            whole(0, c, rank=r)
        ranks = asked * count if isinstance(rank, Integral) else asked
        if len(ranks) != count:
            raise ValueError(f"rank must be one number or {count} numbers from 0 to {c}: got {shown(rank)}")
        most = max(ranks, default=0)
        self.raw = nn.Parameter(self._drawn(c_out, c_in), requires_grad=self.trainable)
        self.raw_bases = nn.Parameter(self._drawn(count, c, most), requires_grad=self.trainable)
        kept = torch.arange(most, device=self.raw.device) < torch.tensor(ranks, device=self.raw.device)[:, None]
        # After Björck, not before: a column of zeros would stay one, and a column set free would not come back.
        # A part of the state: with other ranks the same parameters are another kernel.
        self.register_buffer("kept", None if kept.all() else kept[:, None].to(self.raw))

    def _drawn(self, *shape: int) -> Tensor:
        """Orthogonal matrices, for several groups one after the other along the first axis of a group of axes."""
        return self.orthogonal(*shape) if self.groups == 1 else self.orthogonal(self.groups, *shape)

    @property
    def rank(self) -> list[int]:
        """Of each projector."""
        count, most = self.raw_bases.shape[-3], self.raw_bases.shape[-1]
        return [most] * count if self.kept is None else [int(kept) for kept in self.kept.sum((1, 2))]

    def compute_weight(self) -> Tensor:
        tolerance = TRAINING_TOLERANCE if self.training else None
        parts = [bjorck(self.raw, tolerance=tolerance), self.raw_bases]
        if self.raw_bases.numel():
            parts[1] = bjorck(self.raw_bases, tolerance=tolerance)  # (2 (k - 1), c, r)
        if self.kept is not None:
            parts[1] = parts[1] * self.kept
        if self.kernel_size % self.stride:
            parts.append(bjorck(self.raw_patches, tolerance=tolerance))
        if self.groups == 1:
            return self._kernel(*parts)
        return torch.cat([self._kernel(*group) for group in zip(*parts, strict=True)])

    def _kernel(self, h: Tensor, bases: Tensor, patches: Tensor | None = None) -> Tensor:
        """Of one group, on the rearranged image: (c_out, c_in s², ceil(k / s), ceil(k / s))."""
        kernel = bcop_kernel(h, *bases.tensor_split(2))
        if patches is None:
            return kernel
        s = self.stride
        return phases(block_convolution(patches.view(len(patches), -1, s, s), kernel), s)

    def lipschitz_bound(self) -> tuple[float, float]:
        """sqrt(1 + residual), or the measured norm if less, and the residual of KᵀK = I; for both paddings."""
        weight = self.plain_kernel()
        off = orthogonality_residual(weight) + 8 * math.prod(weight.shape) * torch.finfo(torch.float64).eps
        bound = math.sqrt(1 + off)  # for every image size
        return (min(bound, self.measured_bound()) if off > 1e-3 else bound), off

    def extra_repr(self) -> str:
        ranks = sorted(set(self.rank))
        return f"{super().extra_repr()}, rank={ranks[0] if len(ranks) == 1 else self.rank}, {self.kind}"
