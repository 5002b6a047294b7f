"""How does Björck's iteration bound a convolution? On its reshaped kernel, divided by how often a pixel is read.

A bound and no isometry: what keeps the norm of a gradient through a convolution is in ``nnlib.bcop``.

Paper: arXiv 1811.05381, section 4 and its code. Chapter: book/groupsort.ipynb.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from nnlib.arguments import typed, whole
from nnlib.lipschitz import Constrained, bjorck, orthogonal_matrix, residual
from nnlib.lipschitz.layers import TRAINING_TOLERANCE, filled, parameter


@typed
class ReshapedConv(Constrained):
    """A convolution whose reshaped kernel (c_out, c_in k²) is orthonormal, divided by ceil(k / stride).

    Cutting an image into overlapping patches repeats each pixel up to ceil(k / stride)² times; without that division
    the layer is not 1-Lipschitz, as the published critic's is not.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: k.
        stride: Of the patches, at most k; padding is (k - stride) / 2 zeros, rounded down, at each side.
        seed: Of the weights.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: for a stride that is larger than the kernel, or a number below 1; in forward, another number of
            channels, or images smaller than the kernel.

    Source: arXiv 1811.05381, section 4 and its code. Chapter: book/groupsort.ipynb

    >>> bound, residual = ReshapedConv(1, 4, 4, 2).lipschitz_bound()
    >>> abs(bound - 1) < 1e-5, residual < 1e-5
    (True, True)
    """

    raw: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        stride: int,
        *,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, c_in=c_in, c_out=c_out, kernel_size=kernel_size)
        whole(1, kernel_size, stride=stride)
        self.stride, self.overlap = stride, math.ceil(kernel_size / stride)
        self.padding = (kernel_size - stride) // 2
        start = orthogonal_matrix(c_out, c_in * kernel_size**2, seed).view(c_out, c_in, kernel_size, kernel_size)
        self.raw = parameter(start, device, dtype)
        self.bias = parameter(torch.zeros(c_out, device="cpu"), device, dtype)

    def compute_weight(self) -> Tensor:
        tolerance = TRAINING_TOLERANCE if self.training else None
        return bjorck(self.raw.flatten(1), tolerance=tolerance).view_as(self.raw) / self.overlap  # (c_out, c_in, k, k)

    def forward(self, x: Tensor) -> Tensor:  # (n, c_in, H, W) -> (n, c_out, about H / stride, about W / stride)
        _, c_in, k, _ = self.raw.shape
        least = k - 2 * self.padding
        if x.ndim not in (3, 4) or x.shape[-3] != c_in or min(x.shape[-2:]) < least:
            raise ValueError(f"x must have shape (n, {c_in}, H, W), H and W at least {least}: got {tuple(x.shape)}")
        return conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def plain(self) -> nn.Conv2d:
        """``nn.Conv2d``."""
        c_out, c_in, k, _ = self.raw.shape
        placed = {"device": self.raw.device, "dtype": self.raw.dtype}
        return filled(nn.Conv2d(c_in, c_out, k, self.stride, self.padding, **placed), self.weight, self.bias)

    def lipschitz_bound(self) -> tuple[float, float]:
        """sqrt(1 + residual), since cutting into patches costs no more than the division gives; the residual."""
        matrix = self.weight.detach().double().flatten(1) * self.overlap
        away = residual(matrix).item()
        return math.sqrt(1 + away) * (1 + 4 * matrix.shape[1] * torch.finfo(torch.float64).eps), away
