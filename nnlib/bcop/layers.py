"""The convolution that keeps the norm of every gradient, whatever its parameters are.

Paper: Li et al., arXiv 1911.00937, section 4. Chapter: book/bcop.ipynb.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.bcop.convolution import LipschitzConv
from nnlib.bcop.kernels import bcop_kernel, orthogonality_residual
from nnlib.lipschitz import bjorck
from nnlib.lipschitz.layers import TRAINING_TOLERANCE


class BCOPConv(LipschitzConv):
    """The orthogonal convolution of Li et al.: every singular value is 1, before, during and after training.

    The kernel is made of a matrix H with orthonormal rows or columns and 2 (k - 1) projectors, all from Björck's
    iteration (see :func:`nnlib.bcop.bcop_kernel`). With stride 1 and c_in <= c_out the layer keeps the norm of every
    input, with c_out <= c_in that of every gradient.

    Args:
        c_in: As for all layers here; so are c_out, kernel_size and the options.
        rank: Of the projectors, one number or one for each of the 2 (k - 1); by default half of max(c_in s², c_out),
            the choice of Theorem 2. A layer never leaves the component of the orthogonal convolutions that the ranks
            put it in.
        trainable: False freezes the random kernel (the paper's BCOP-Fixed); the bias is trained.

    Raises:
        ValueError: a rank out of range.

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

    rank: list[int]
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
        c, count = max(c_out, c_in), 2 * (k - 1)
        rank = c // 2 if self.asked is None else self.asked
        ranks = [rank] * count if isinstance(rank, int) else list(rank)
        if len(ranks) != count or not all(0 <= r <= c for r in ranks):
            raise ValueError(f"rank must be one number or {count} numbers from 0 to {c}: got {rank}")
        self.rank = ranks
        most = max(ranks, default=0)
        self.raw = nn.Parameter(self.orthogonal(c_out, c_in), requires_grad=self.trainable)
        self.raw_bases = nn.Parameter(self.orthogonal(count, c, most), requires_grad=self.trainable)
        kept = torch.arange(most, device=self.raw.device) < torch.tensor(ranks, device=self.raw.device)[:, None]
        # After Björck, not before: a column of zeros would stay one, and a column set free would not come back.
        self.register_buffer("kept", None if kept.all() else kept[:, None].to(self.raw), persistent=False)

    def compute_weight(self) -> Tensor:
        tolerance = TRAINING_TOLERANCE if self.training else None
        h = bjorck(self.raw, tolerance=tolerance)
        bases = self.raw_bases
        if bases.numel():
            bases = bjorck(bases, tolerance=tolerance)  # (2 (k - 1), c, r)
        if self.kept is not None:
            bases = bases * self.kept
        return bcop_kernel(h, *bases.tensor_split(2))

    def lipschitz_bound(self) -> tuple[float, float]:
        """sqrt(1 + residual), or the measured norm if less, and the residual of KᵀK = I; for both paddings."""
        weight = self.weight.detach()
        off = orthogonality_residual(weight) + 8 * math.prod(weight.shape) * torch.finfo(torch.float64).eps
        bound = math.sqrt(1 + off)  # for every image size
        return (min(bound, self.measured_bound()) if off > 1e-3 else bound), off

    def extra_repr(self) -> str:
        ranks = sorted(set(self.rank))
        return f"{super().extra_repr()}, rank={ranks[0] if len(ranks) == 1 else self.rank}, {self.kind}"
