"""Other ways to keep a convolution's norm at 1, none of which keeps the norm of a gradient.

Paper: Li et al., arXiv 1911.00937, sections 5 and 6. Chapter: book/bcop.ipynb.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize
from torch.nn.functional import pad as torch_pad

from nnlib.arguments import real, typed, whole
from nnlib.bcop.convolution import LipschitzConv, pad
from nnlib.lipschitz import bjorck, norm_bound, residual
from nnlib.lipschitz.layers import TRAINING_TOLERANCE
from nnlib.lipschitz.norms import pair


class RKOConv(LipschitzConv):
    """Reshaped-kernel orthogonalisation: the c_out x (c_in k²) matrix orthonormal, divided by k.

    The norm is at most 1, since each pixel stands in k² patches. The mean of the squared singular values is
    min(c_out, c_in k²) / (k² min(c_out, c_in)): 1 / k² for c_out <= c_in, so most of a gradient is lost.

    Source: arXiv 1911.00937, section 5. Chapter: book/bcop.ipynb

    >>> bound, residual = RKOConv(4, 4, 3).eval().lipschitz_bound()
    >>> bound <= 1 + 1e-5
    True
    """

    def build(self) -> None:
        c_out, c_in, k, _ = self.shape
        self.raw = nn.Parameter(self.orthogonal(c_out, c_in * k * k))

    def compute_weight(self) -> Tensor:
        tolerance = TRAINING_TOLERANCE if self.training else None
        return bjorck(self.raw, tolerance=tolerance).view(self.shape) / self.shape[-1]

    def lipschitz_bound(self) -> tuple[float, float]:
        """The smaller of the measured norm and k times the norm of the matrix; the matrix's residual."""
        off = residual(self.weight.detach().flatten(1) * self.shape[-1]).item()
        return min(self.measured_bound(), math.sqrt(1 + off)), off


class L2NEConv(LipschitzConv):
    """Divided by a cheap bound on its norm (Qian and Wegman): k sqrt(min(‖R Rᵀ‖_inf, ‖Rᵀ R‖_inf)), R the matrix of RKO.

    Source: arXiv 1911.00937, section 6, after arXiv 1808.07771. Chapter: book/bcop.ipynb

    >>> L2NEConv(4, 4, 3).eval().lipschitz_bound()[0] < 1
    True
    """

    def build(self) -> None:
        c_out, c_in, k, _ = self.shape
        self.raw = nn.Parameter(self.orthogonal(c_out, c_in * k * k))

    def compute_weight(self) -> Tensor:
        largest = [gram.abs().sum(1).amax() for gram in (self.raw @ self.raw.mT, self.raw.mT @ self.raw)]
        return self.raw.view(self.shape) / (self.shape[-1] * torch.minimum(*largest).sqrt())

    def lipschitz_bound(self) -> tuple[float, float]:
        """The smaller of the measured norm and k times a bound on the norm of the matrix; 0, for nothing converges."""
        matrix = self.weight.detach().double().flatten(1)
        return min(self.measured_bound(), self.shape[-1] * norm_bound(matrix).item()), 0.0


@typed
class OSSNConv(LipschitzConv):
    """One-sided spectral normalisation: W / max(1, s), with s from power iteration on the convolution itself.

    The iteration approaches the norm from below, and u lags behind W: nothing keeps the true norm below 1.

    Args:
        c_in: As for all layers here; so are c_out, kernel_size and the options. ``size`` is needed.
        steps: Of power iteration in each forward pass in training, at least 1.

    Raises:
        ValueError: no size, or other padding than circular; an image of less than half the kernel.

    Source: arXiv 1911.00937, section 5, after arXiv 1804.04368. Chapter: book/bcop.ipynb

    >>> layer = OSSNConv(4, 4, 3, size=8)
    >>> bound, excess = layer.lipschitz_bound()
    >>> bound < 1.2
    True
    """

    u: Tensor
    estimate: Tensor

    def __init__(self, c_in: int, c_out: int, kernel_size: int, *, steps: int = 10, **more: Any):
        whole(1, steps=steps)
        self.steps = steps
        super().__init__(c_in, c_out, kernel_size, **more)

    def build(self) -> None:
        height, width = _circular_grid(self)
        c_out, c_in, k, _ = self.shape
        self.raw = nn.Parameter(self.orthogonal(c_out, c_in * k * k).view(self.shape))
        with torch.device("cpu"):
            u = torch.randn(1, c_in, height, width, generator=self.generator, dtype=torch.float64)
        self.register_buffer("u", (u / u.norm()).to(**self.placed))
        self.register_buffer("estimate", torch.ones((), **self.placed))
        with torch.no_grad():
            self._norm()

    def compute_weight(self) -> Tensor:
        norm = self._norm() if self.training else self.estimate
        return self.raw / norm.clamp(min=1)

    def _norm(self) -> Tensor:
        """v' W u after the power steps; the gradient flows through W, not through u and v."""
        grid = _circular_grid(self)
        with torch.no_grad():
            u = self.u
            for _ in range(self.steps):
                v = normalize(_circular(u, self.raw).flatten(), dim=0).view(1, -1, *grid)
                u = normalize(_adjoint(v, self.raw).flatten(), dim=0).view_as(u)
            self.u.copy_(u)
        norm = (v * _circular(u, self.raw)).sum()
        with torch.no_grad():
            self.estimate.copy_(norm)
        return norm


class SVCMConv(LipschitzConv):
    """Singular values clipped and the kernel masked (Sedghi et al.), now and then, by :meth:`project_`.

    Source: arXiv 1911.00937, section 5, after arXiv 1805.10408. Chapter: book/bcop.ipynb

    >>> layer = SVCMConv(4, 4, 3, size=8)
    >>> layer.lipschitz_bound()[0] < 1.01
    True
    """

    def build(self) -> None:
        grid = _circular_grid(self)
        c_out, c_in, k, _ = self.shape
        if k > min(grid):
            raise ValueError(f"size must be at least kernel_size for SVCM: got {grid} and {k} after the stride")
        self.raw = nn.Parameter(self.orthogonal(c_out, c_in * k * k).view(self.shape))
        self.project_()

    def compute_weight(self) -> Tensor:
        return self.raw

    @typed
    @torch.no_grad()
    def project_(self, steps: int = 50) -> None:
        """Alternate: clip all singular values to at most 1 at this image size; cut the kernel back to k x k.

        Cutting raises some of them again, so the result ends slightly above 1.
        """
        self.raw.copy_(clip_and_mask(self.raw.double(), _circular_grid(self), steps))


@typed
def clip_and_mask(kernel: Tensor, size: int | Sequence[int], steps: int = 50) -> Tensor:
    """The iteration of :class:`SVCMConv` on a kernel, at an image size.

    Args:
        kernel: Shape (c_out, c_in, k, k), finite.
        size: H and W of the image, at least k.
        steps: How often to clip and to cut; 0 for not at all.

    Returns:
        Shape (c_out, c_in, k, k).

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite; an image smaller than it.

    Source: arXiv 1805.10408, section 3. Chapter: book/bcop.ipynb

    >>> from nnlib.lipschitz import conv_norm
    >>> kernel = clip_and_mask(torch.full((1, 1, 3, 3), 1.0, dtype=torch.float64), (8, 8))
    >>> bool(conv_norm(kernel, 8) < 1.01)
    True
    """
    k = real("c_out c_in k k", kernel=kernel)["k"]
    size = pair(size=size)
    if k > min(size):
        raise ValueError(f"size must be at least that of the kernel, {k}: got {size}")
    whole(0, steps=steps)
    wide = kernel.shape[0] <= kernel.shape[1]
    for _ in range(steps):
        response = torch.fft.rfft2(kernel, s=size).permute(2, 3, 0, 1)  # (H, W / 2 + 1, c_out, c_in)
        gram = response @ response.mH if wide else response.mH @ response
        squares, vectors = torch.linalg.eigh(gram)
        shrink = squares.clamp(min=1).rsqrt()  # min(1, 1 / s)
        shrink = (vectors * shrink[..., None, :].to(vectors)) @ vectors.mH
        response = shrink @ response if wide else response @ shrink
        kernel = torch.fft.irfft2(response.permute(2, 3, 0, 1), s=size)[..., :k, :k]
    return kernel


def _circular_grid(layer: LipschitzConv) -> tuple[int, int]:
    """The one size of image that a layer is made for."""
    if layer.grid is None or layer.padding_mode != "circular":
        raise ValueError(f"{type(layer).__name__} is made for one size of image and circular padding: give size=")
    return layer.grid


def _circular(x: Tensor, kernel: Tensor) -> Tensor:
    return conv2d(pad(x, kernel.shape[-1]), kernel)


def _adjoint(y: Tensor, kernel: Tensor) -> Tensor:
    """The transposed operator: the kernel turned by 180 degrees, its channels exchanged, and the padding too."""
    before, after = (kernel.shape[-1] - 1) // 2, kernel.shape[-1] // 2
    turned = kernel.flip(-2, -1).transpose(0, 1)
    if after > min(y.shape[-2:]):
        raise ValueError(
            f"size must be at least half the kernel_size for power iteration: got {tuple(y.shape[-2:])} for "
            f"{kernel.shape[-1]} after the stride"
        )
    return conv2d(torch_pad(y, (before, after, before, after), mode="circular"), turned)
