"""What do all Lipschitz convolutions share? Rearranging pixels for a stride, circular padding, and honest measuring.

Paper: Li et al., arXiv 1911.00937, sections 3 and 5. Chapter: book/bcop.ipynb.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_unshuffle
from torch.nn.functional import pad as torch_pad

from nnlib.arguments import one_of, real, seeded, typed, whole
from nnlib.lipschitz import Constrained, conv_norm, conv_norm_bound, conv_singular_values
from nnlib.lipschitz.layers import filled
from nnlib.lipschitz.norms import pair, with_rounding
from nnlib.lipschitz.values import readable

LARGEST_DENSE = 4096  # rows and columns of an operator that is written out as a matrix


@typed
class LipschitzConv(Constrained):
    """What the layers below share. Subclasses compute ``weight`` and may know a better bound than the measured norm.

    Args:
        c_in: Channels of the image.
        c_out: Channels of the output.
        kernel_size: k, odd or even, a multiple of the stride (for :class:`nnlib.bcop.BCOPConv`, at least the stride).
        stride: s. The image is first rearranged, (c_in, H, W) to (c_in s², H/s, W/s), and the kernel is k/s wide.
        dilation: d, where the layer allows it: taps d pixels apart, so that each frequency is met d times as fast.
        groups: g, where the layer allows it: as many convolutions of c_in / g to c_out / g channels side by side.
        bias: Whether there is one; it starts at zero.
        size: H and W of the image. Where it is given, other sizes are refused and the measured norm is the exact one
            at this size; else it is a bound for all sizes.
        padding_mode: "circular" or "zeros".
        seed: Of the initial weight.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: a stride that does not divide the kernel or the image, another padding mode, a dilation or groups
            that the layer has no theory for, or a number below 1; in forward, images of another shape.

    Chapter: book/bcop.ipynb
    """

    any_geometry = False  # whether strides that don't divide the kernel, dilation and groups are allowed

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        size: int | Sequence[int] | None = None,
        padding_mode: str = "circular",
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, c_in=c_in, c_out=c_out, kernel_size=kernel_size, stride=stride, dilation=dilation, groups=groups)
        one_of(("circular", "zeros"), padding_mode=padding_mode)
        if kernel_size % stride and not (self.any_geometry and kernel_size > stride):
            raise ValueError(f"stride must divide the kernel_size: got {stride} and {kernel_size}")
        if (dilation, groups) != (1, 1) and not self.any_geometry:
            raise ValueError(f"{type(self).__name__} has no dilation and no groups: got {dilation} and {groups}")
        if c_in % groups or c_out % groups:
            raise ValueError(f"groups must divide the channels c_in and c_out: got {groups} of {c_in} and {c_out}")
        self.size = None if size is None else pair(size=size)
        if self.size is not None and any(n % stride for n in self.size):
            raise ValueError(f"stride must divide the image: got {stride} and the size {self.size}")
        self.stride, self.padding_mode, self.dilation, self.groups = stride, padding_mode, dilation, groups
        self.kernel_size, taps = kernel_size, -(-kernel_size // stride)
        self.shape = (c_out, c_in * stride**2 // groups, taps, taps)  # of the weight
        self.placed = {"device": device, "dtype": dtype or torch.get_default_dtype()}
        self.bias = nn.Parameter(torch.zeros(c_out, **self.placed)) if bias else None
        self.generator = seeded(seed)
        self._told: set[tuple[int, int]] = set()
        self.build()
        del self.generator, self.placed

    def build(self) -> None:
        """Make the parameters."""
        raise NotImplementedError(f"{type(self).__name__} must make its parameters")

    def orthogonal(self, *shape: int) -> Tensor:
        """Random matrices with orthonormal rows or columns, (..., m, n), drawn on the CPU in float64."""
        with torch.device("cpu"):
            matrices = torch.empty(math.prod(shape[:-2]), *shape[-2:], dtype=torch.float64)
            for matrix in matrices:
                nn.init.orthogonal_(matrix, generator=self.generator)
        return matrices.view(shape).to(**self.placed)

    @property
    def kind(self) -> str:
        """What an orthogonal layer of these widths is: a co-isometry has norm 1 and keeps the norm of gradients, but
        drops part of its input."""
        c_out, c_in = self.shape[:2]
        c_in *= self.groups
        return "orthogonal" if c_in == c_out else "isometry" if c_in < c_out else "co-isometry"

    @property
    def grid(self) -> tuple[int, int] | None:
        """H/s and W/s: the image that ``weight`` is convolved with."""
        return None if self.size is None else (self.size[0] // self.stride, self.size[1] // self.stride)

    def forward(self, x: Tensor) -> Tensor:  # (n, c_in, H, W) -> (n, c_out, H / s, W / s)
        s, c_in, shape = self.stride, self.shape[1] * self.groups // self.stride**2, tuple(x.shape)
        size = shape[-2:]
        if (
            shape[-3:-2] != (c_in,)
            or len(shape) > 4
            or self.size not in (None, size)
            or any(n % s or not n for n in size)
        ):
            height, width = self.size or (f"a multiple of {s}", f"a multiple of {s}")
            raise ValueError(f"x must have shape (n, {c_in}, {height}, {width}): got {shape}")
        if s > 1:
            x = pixel_unshuffle(x, s)
        size = (size[0] // s, size[1] // s)
        if (self.padding_mode == "zeros" or min(size) < self.reach) and size not in self._told and readable(x):
            self._told.add(size)
            self._warn(size)
        padded = pad(x, self.reach, self.padding_mode)
        return conv2d(padded, self.weight, self.bias, dilation=self.dilation, groups=self.groups)

    @property
    def reach(self) -> int:
        """Pixels from the first tap of the weight to the last, both counted."""
        return self.dilation * (self.shape[-1] - 1) + 1

    def plain_kernel(self) -> Tensor:
        """The weight as the kernel of the same convolution without dilation and groups, detached.

        Zeros stand between its taps and between its groups: shape (c_out, c_in s², reach, reach).
        """
        weight, d = self.weight.detach(), self.dilation
        blocks = zip(weight.chunk(self.groups), range(self.groups), strict=True)
        c_out, c_in = len(weight) // self.groups, weight.shape[1]
        kernel = weight.new_zeros(len(weight), c_in * self.groups, self.reach, self.reach)
        for block, i in blocks:
            kernel[i * c_out : (i + 1) * c_out, i * c_in : (i + 1) * c_in, ::d, ::d] = block
        return kernel

    def plain(self) -> nn.Module:
        """``nn.Conv2d``, after ``nn.PixelUnshuffle`` for a stride; with zeros beside an even kernel."""
        weight, d, reach = self.weight, self.dilation, self.reach
        if self.grid is not None and reach // 2 > min(self.grid):
            raise ValueError(f"nn.Conv2d pads {self.grid} pixels by fewer than {reach // 2}: the kernel is too large")
        if reach % 2 == 0:  # nn.Conv2d pads both sides alike
            apart = weight.new_zeros(*weight.shape[:2], reach + 1, reach + 1)
            apart[..., :reach:d, :reach:d] = weight
            weight, d = apart, 1
        c_out, c_in, k, _ = weight.shape
        layer = nn.Conv2d(
            c_in * self.groups,
            c_out,
            k,
            padding=reach // 2,
            dilation=d,
            groups=self.groups,
            bias=self.bias is not None,
            padding_mode=self.padding_mode,  # pyright: ignore[reportArgumentType]
            device=weight.device,
            dtype=weight.dtype,
        )
        filled(layer, weight, self.bias)
        return layer if self.stride == 1 else nn.Sequential(nn.PixelUnshuffle(self.stride), layer)

    def _warn(self, size: tuple[int, int]) -> None:
        """Say once what zero padding, or an image smaller than the kernel, makes of the singular values."""
        zeros, k = self.padding_mode == "zeros", self.reach
        why = (
            "the image is padded with zeros" if zeros else f"the kernel of {k} x {k} wraps round the image onto itself"
        )
        if zeros and max(self.shape[0], self.shape[1] * self.groups) * math.prod(size) > LARGEST_DENSE:
            found = "too many to measure here; see gains() at a smaller size"
        else:
            found = str(gains(self, (size[0] * self.stride, size[1] * self.stride)))
        warnings.warn(
            f"{type(self).__name__} on {size[0]} x {size[1]} pixels: {why}. Singular values: {found}", stacklevel=3
        )

    def measured_bound(self) -> float:
        """The norm of ``weight``: exact at ``size`` with circular padding, else a bound for all sizes."""
        weight = self.plain_kernel()
        grid = self.grid if self.padding_mode == "circular" else None
        norm = conv_norm_bound(weight) if grid is None else conv_norm(weight, grid)
        return with_rounding(norm, weight)

    def lipschitz_bound(self) -> tuple[float, float]:
        """The measured norm, and by how much it exceeds 1."""
        bound = self.measured_bound()
        return bound, max(0.0, bound - 1)

    def extra_repr(self) -> str:
        c_out, c_in, k, _ = self.shape
        stride = f", stride={self.stride} by rearranging" if self.stride > 1 else ""
        more = "".join(f", {n}={v}" for n, v in (("dilation", self.dilation), ("groups", self.groups)) if v > 1)
        zeros = ", padding_mode=zeros" if self.padding_mode == "zeros" else ""
        return f"{c_in * self.groups}, {c_out}, kernel_size={k}{stride}{more}{zeros}"


@typed
@dataclass(frozen=True)
class Gains:
    """By how much a convolution stretches its inputs.

    Args:
        largest: Its norm.
        smallest: The smallest of the min(inputs, outputs) singular values.
        rms: Root mean square of them: the gain of the gradient of white noise.
        lost: Dimensions of the input that have no output, 0 where the layer can be an isometry.
    """

    largest: float
    smallest: float
    rms: float
    lost: int

    def __str__(self) -> str:
        dropped = f", {self.lost} input dimensions dropped" if self.lost else ""
        return f"{self.smallest:.4f} to {self.largest:.4f}, root mean square {self.rms:.4f}{dropped}"


@typed
@torch.no_grad()
def gains(layer: LipschitzConv, size: int | Sequence[int]) -> Gains:
    """The true singular values of a layer on images of a size, for any padding, width and kernel.

    Circular: by Fourier transform. Zeros: of the operator written out as a matrix.

    Args:
        layer: A convolution of this package.
        size: H and W of its input, multiples of the stride.

    Raises:
        ValueError: another size; with zero padding, where the matrix would be larger than 4096 x 4096.

    Chapter: book/bcop.ipynb

    >>> from nnlib.bcop import BCOPConv
    >>> print(gains(BCOPConv(8, 4, 3, seed=0), 6))
    1.0000 to 1.0000, root mean square 1.0000, 144 input dimensions dropped
    """
    height, width = pair(size=size)
    weight, s = layer.plain_kernel().double(), layer.stride
    if height % s or width % s:
        raise ValueError(f"size must be multiples of the stride {s}: got {height} x {width}")
    grid = (height // s, width // s)
    if layer.padding_mode == "circular":
        values = conv_singular_values(weight, grid)
    else:
        values = torch.linalg.svdvals(operator_matrix(weight, grid, layer.padding_mode))
    c_out, c_in = weight.shape[:2]
    lost = max(0, c_in - c_out) * math.prod(grid)
    return Gains(values.max().item(), values.min().item(), values.square().mean().sqrt().item(), lost)


@typed
def operator_matrix(kernel: Tensor, size: int | Sequence[int], padding_mode: str = "circular") -> Tensor:
    """A convolution as a matrix, (c_out H W, c_in H W), by applying it to every unit image.

    Args:
        kernel: Shape (c_out, c_in, k, k), finite.
        size: H and W.
        padding_mode: "circular" or "zeros", with k // 2 pixels before and (k - 1) // 2 after.

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite; another size or padding; where the matrix would be larger
            than 4096 x 4096.

    Chapter: book/bcop.ipynb

    >>> operator_matrix(torch.eye(2)[:, :, None, None], (2, 2)).shape
    torch.Size([8, 8])
    """
    real("c_out c_in k k", kernel=kernel)
    one_of(("circular", "zeros"), padding_mode=padding_mode)
    height, width = pair(size=size)
    c_out, c_in, k, _ = kernel.shape
    n = c_in * height * width
    if max(n, c_out * height * width) > LARGEST_DENSE:
        raise ValueError(
            f"size must leave the operator at most {LARGEST_DENSE} inputs and outputs: got {height} x {width} pixels "
            f"of {c_in} channels to {c_out}"
        )
    images = torch.eye(n, dtype=kernel.dtype, device=kernel.device).view(n, c_in, height, width)
    return conv2d(pad(images, k, padding_mode), kernel).flatten(1).mT


def pad(x: Tensor, kernel_size: int, mode: str = "circular") -> Tensor:
    """k // 2 pixels before and (k - 1) // 2 after, on both axes, circular also where the image is smaller than that."""
    before, after = kernel_size // 2, (kernel_size - 1) // 2
    if mode == "zeros":
        return torch_pad(x, (before, after, before, after))
    if before == 0:
        return x
    if before <= min(x.shape[-2:]):
        return torch_pad(x, (before, after, before, after), mode="circular")
    for axis in (-2, -1):
        n = x.shape[axis]
        x = x.index_select(axis, torch.arange(-before, n + after, device=x.device) % n)
    return x
