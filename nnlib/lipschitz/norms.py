"""By how much can a linear layer stretch its input? True operator norms, not those of a reshaped kernel.

A circular convolution is block-diagonal in the Fourier basis, so its singular values are those of one small matrix a
frequency (Sedghi et al., arXiv 1805.10408). All norms are computed in float64. Chapters: book/groupsort.ipynb,
book/bcop.ipynb.
"""

import math
from collections.abc import Collection, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from nnlib.arguments import one_of, real, shown, typed, whole

DUAL = {1: math.inf, 2: 2, math.inf: 1}  # 1/p + 1/dual = 1
MEASURED = {(2, 2)} | {(1, q) for q in DUAL} | {(p, math.inf) for p in DUAL}


def known_norm(among: Collection[float] = tuple(DUAL), **named: Any) -> None:
    """The p of a p-norm: 1, 2 or inf, or some of them.

    >>> known_norm(q=3)
    Traceback (most recent call last):
    ValueError: q must be 1, 2 or inf: got 3
    """
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, Real) or value not in among:
            *first, last = map(str, among)
            raise ValueError(f"{name} must be {', '.join(first)} or {last}: got {shown(value)}")


@typed
def dense_norm(weight: Tensor, norms: tuple[float, float] = (2, 2)) -> Tensor:
    """The operator norm of a matrix: max ‖W x‖_q over ‖x‖_p <= 1.

    - (2, 2): the largest singular value;
    - (p, inf): the largest row in the dual norm of p, for p = 1, 2, inf;
    - (1, q): the largest column in the norm q, for q = 1, 2, inf.

    Args:
        weight: W, shape (out, in).
        norms: (p, q).

    Returns:
        A float64 scalar.

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: for other pairs, whose norms are hard to compute; a weight that is no matrix, or not finite.

    Chapter: book/groupsort.ipynb

    >>> weight = torch.tensor([[3.0, -4.0], [0.0, 1.0]])
    >>> [round(dense_norm(weight, (p, math.inf)).item(), 3) for p in (1, 2, math.inf)]
    [4.0, 5.0, 7.0]
    """
    real("out in", weight=weight)
    if norms not in MEASURED:
        raise ValueError(f"norms must be (2, 2), (1, q) or (p, inf) with p and q from 1, 2, inf: got {norms}")
    weight, (p, q) = weight.detach().double(), norms
    if norms == (2, 2):
        return torch.linalg.matrix_norm(weight, 2)
    if q == math.inf:
        return torch.linalg.vector_norm(weight, DUAL[p], dim=1).amax()
    return torch.linalg.vector_norm(weight, q, dim=0).amax()


@typed
def conv_singular_values(weight: Tensor, size: int | Sequence[int], *, stride: int = 1) -> Tensor:
    """All singular values of a circular convolution.

    With the kernel's taps wound onto the image and cut into the stride's s² phases, for each of the H W / s²
    frequencies they are those of the matrix

        What(u, v) = sum_{a, b} W[:, :, a, b] exp(-2 pi i (a u / H + b v / W)),    shape (c_out, c_in s²).

    Args:
        weight: Kernel, shape (c_out, c_in, k_h, k_w), cross-correlation as in torch. It may be larger than the image.
        size: H and W of the input, multiples of the stride; one number for a square.
        stride: s.

    Returns:
        Shape (H W / s², min(c_out, c_in s²)), float64, descending in each row.

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite; a size that the stride does not divide.

    Source: arXiv 1805.10408, theorem 6. Chapter: book/bcop.ipynb

    >>> shift = torch.zeros(1, 1, 3, 3)
    >>> shift[0, 0, 0, 1] = 1.0
    >>> conv_singular_values(shift, 4).unique().tolist()
    [1.0]
    """
    return torch.linalg.svdvals(torch.fft.fft2(_wound(weight, size, stride)).permute(2, 3, 0, 1).flatten(0, 1))


@typed
def conv_norm(
    weight: Tensor,
    size: int | Sequence[int],
    *,
    stride: int = 1,
    padding_mode: str = "circular",
    padding: int | None = None,
) -> Tensor:
    """The operator norm of a convolution on images of this size: its largest singular value.

    Circular: over all frequencies (see :func:`conv_singular_values`). Zeros: of the operator itself, by Lanczos
    iterations to a relative tolerance of 1e-10; that is never above the truth, so use :func:`conv_norm_bound` where a
    proof is wanted.

    Args:
        weight: Kernel, shape (c_out, c_in, k_h, k_w).
        size: H and W of the input.
        stride: Of the convolution; for circular padding it divides H and W.
        padding_mode: "circular" or "zeros".
        padding: Zeros added at every side, by default k_h // 2; for circular padding it changes no singular value.

    Returns:
        A float64 scalar.

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: another padding mode, kernel or size, or a kernel that is not finite, or larger than what is padded.

    Chapter: book/bcop.ipynb

    >>> mean = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
    >>> round(conv_norm(mean, 8).item(), 3), round(conv_norm(mean, 8, padding_mode="zeros").item(), 3)
    (1.0, 0.921)
    """
    one_of(("circular", "zeros"), padding_mode=padding_mode)
    if padding is not None:
        whole(0, padding=padding)
    if padding_mode == "circular":
        half = torch.fft.rfft2(_wound(weight, size, stride)).permute(2, 3, 0, 1)  # a real kernel: the rest is conjugate
        return _spectral(half).amax()
    whole(1, stride=stride)
    height, width = pair(size=size)
    weight = _checked(weight).cpu()
    padding = weight.shape[-2] // 2 if padding is None else padding
    if height + 2 * padding < weight.shape[-2] or width + 2 * padding < weight.shape[-1]:
        raise ValueError(
            f"weight must fit into size and padding: got a kernel of {tuple(weight.shape[-2:])} on {height} x {width} "
            f"pixels with {padding} around"
        )
    shape = (1, weight.shape[1], height, width)
    out = conv2d(torch.zeros(shape, dtype=torch.float64, device="cpu"), weight, stride=stride, padding=padding)
    # What transposing the convolution would leave off where the stride does not divide the size.
    rest = [(n + 2 * padding - k) % stride for n, k in zip(shape[2:], weight.shape[2:], strict=True)]

    def forward(x: np.ndarray) -> np.ndarray:
        return conv2d(torch.from_numpy(x.reshape(shape)), weight, stride=stride, padding=padding).numpy().ravel()

    def adjoint(y: np.ndarray) -> np.ndarray:
        back = torch.from_numpy(y.reshape(out.shape))
        back = conv_transpose2d(back, weight, stride=stride, padding=padding, output_padding=rest)
        return back.numpy().ravel()

    if min(out.numel(), math.prod(shape)) == 1 or not weight.any():  # a vector, or zero: nothing to iterate on
        entries = adjoint(np.ones(1)) if out.numel() == 1 else forward(np.ones(math.prod(shape)))
        return torch.from_numpy(entries).norm()
    operator = LinearOperator((out.numel(), math.prod(shape)), matvec=forward, rmatvec=adjoint, dtype=np.float64)
    start = np.random.default_rng(0).normal(size=min(operator.shape))
    largest = svds(operator, k=1, tol=1e-10, v0=start, return_singular_vectors=False, maxiter=10_000)
    return torch.tensor(largest[0], dtype=torch.float64, device="cpu")


@typed
def conv_norm_bound(weight: Tensor, *, stride: int = 1, grid: int | None = None) -> Tensor:
    """A proven bound on the norm of a convolution for images of every size, with zeros around, or circular.

    Zero padding cuts a piece out of an infinite convolution, whose norm is the supremum of ‖What(theta)‖ over all
    angles. The least of three bounds on it counts.

    - Along one angle, u* What v is a trigonometric polynomial of degree d = (k - 1) / 2, and between points of a
      grid of N such a polynomial rises by at most a factor 1 / cos(pi d / N) (Duffin and Schaeffer 1938). So
      sup ‖What‖ <= max over the grid / (cos(pi d_h / N) cos(pi d_w / N)).
    - K Kᵀ is a convolution with taps A(a, b), so that sup ‖What‖² <= c + sum ‖A(a, b) - [a = b = 0] c I‖_F for each c;
      with c the mean of A(0, 0)'s diagonal this is close where K is near a multiple of an orthogonal convolution.
    - A pixel stands in at most ceil(k_h / s) ceil(k_w / s) patches: its root times the norm of the reshaped kernel.

    A circular convolution has some of these frequencies, if its padding is one turn: k - 1 pixels in all along each
    axis, and a stride that divides the image. (:func:`nnlib.lipschitz.layer_bound` sees to the other cases.)

    Args:
        weight: Kernel, shape (c_out, c_in, k_h, k_w).
        stride: As in :func:`conv_singular_values`.
        grid: N, larger than the kernel; by default 64, or 8 times a kernel larger than 8.

    Returns:
        A float64 scalar.

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite; a grid that is too coarse to prove anything.

    Chapter: book/bcop.ipynb

    >>> round(conv_norm_bound(torch.full((1, 1, 3, 3), 1 / 9)).item(), 4)
    1.0
    """
    whole(1, stride=stride)
    weight = _checked(weight)
    kernel = phases(weight, stride)
    widest = max(kernel.shape[-2:])
    grid = max(64, 8 * widest) if grid is None else grid
    whole(widest + 1, grid=grid)
    padded = pad(kernel, (0, grid - kernel.shape[-1], 0, grid - kernel.shape[-2]))
    on_grid = _spectral(torch.fft.rfft2(padded).permute(2, 3, 0, 1)).amax()
    rise = math.prod(math.cos(math.pi * (k - 1) / 2 / grid) for k in kernel.shape[-2:])

    small = kernel if kernel.shape[0] <= kernel.shape[1] else kernel.transpose(0, 1)
    middle = (kernel.shape[-2] - 1, kernel.shape[-1] - 1)
    gram = conv2d(small, small, padding=middle)  # (c, c, 2 k_h - 1, 2 k_w - 1)
    c = gram[:, :, *middle].diagonal().mean()
    gram[:, :, *middle].diagonal().sub_(c)
    taps = c + torch.linalg.matrix_norm(gram, dim=(0, 1)).sum()

    patches = math.prod(math.ceil(k / stride) for k in weight.shape[-2:])
    reshaped = math.sqrt(patches) * torch.linalg.matrix_norm(weight.flatten(1), 2)
    unit = torch.finfo(torch.float64).eps
    margin = 1 + 4 * math.prod(kernel.shape[1:]) * unit  # of the sums' rounding, which may hide small taps too
    taps = taps + 4 * unit * math.prod(kernel.shape[1:]) * math.prod(kernel.shape[2:]) * kernel.square().sum()
    return torch.stack([on_grid / rise, taps.clamp(min=0).sqrt(), reshaped]).amin() * margin


def _spectral(matrices: Tensor) -> Tensor:
    """Largest singular value of each matrix, (..., m, n) -> (...), from the smaller Gram matrix."""
    gram = matrices @ matrices.mH if matrices.shape[-2] <= matrices.shape[-1] else matrices.mH @ matrices
    return torch.linalg.eigvalsh(gram)[..., -1].clamp(min=0).sqrt()


def phases(weight: Tensor, stride: int) -> Tensor:
    """The kernel of the same map on the image cut into its s² phases: (c_out, c_in s², ceil(k / s), ceil(k / s)).

    >>> phases(torch.ones(1, 1, 3, 3), 2).shape
    torch.Size([1, 4, 2, 2])
    """
    if stride == 1:
        return weight
    out, channels, *taps = weight.shape
    height, width = (math.ceil(k / stride) for k in taps)
    weight = pad(weight, (0, width * stride - taps[1], 0, height * stride - taps[0]))
    weight = weight.view(out, channels, height, stride, width, stride)
    return weight.permute(0, 1, 3, 5, 2, 4).reshape(out, channels * stride**2, height, width)


def _wound(weight: Tensor, size: int | Sequence[int], stride: int) -> Tensor:
    """The phases' kernel, wound onto the torus of the output's size: (c_out, c_in s², H / s, W / s)."""
    whole(1, stride=stride)
    height, width = pair(size=size)
    if height % stride or width % stride:
        raise ValueError(f"size must be a multiple of the stride {stride}: got {height} x {width}")
    kernel = phases(_checked(weight), stride)
    for axis, n in ((-2, height // stride), (-1, width // stride)):
        wound = torch.zeros_like(kernel.narrow(axis, 0, 1)).repeat_interleave(n, axis)
        kernel = wound.index_add(axis, torch.arange(kernel.shape[axis], device=kernel.device) % n, kernel)
    return kernel


def _checked(weight: Tensor) -> Tensor:
    real("c_out c_in k_h k_w", weight=weight)
    return weight.detach().double()


def with_rounding(norm: Tensor, weight: Tensor) -> float:
    """A norm computed in float64, raised by what rounding may have hidden.

    >>> with_rounding(torch.tensor(1.0, dtype=torch.float64), torch.ones(2, 3)) > 1
    True
    """
    return norm.item() * (1 + 4 * math.prod(weight.shape[1:]) * torch.finfo(torch.float64).eps)


def pair(**named: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, from one number for a square, or two.

    >>> pair(size=4), pair(size=[2, 3])
    ((4, 4), (2, 3))
    >>> pair(size=0)
    Traceback (most recent call last):
    ValueError: size must be a whole number of at least 1: got 0
    """
    ((name, size),) = named.items()
    numbers = (size, size) if not isinstance(size, Sequence) else tuple(size)
    if len(numbers) != 2:
        raise ValueError(f"{name} must be one number or two, height and width: got {shown(size)}")
    for number in numbers:
        whole(1, **{name: number})
    return numbers
