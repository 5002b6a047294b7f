"""On which island does an orthogonal convolution live? Winding numbers of its determinant, and what lies between.

det What(theta), the determinant of the frequency response, is ± exp(-i m theta) for an orthogonal convolution in one
dimension. The whole number m can't change on a continuous path of invertible convolutions, nor can the sign.

Paper: Li et al., arXiv 1911.00937, section 4.3, theorem 1. Chapter: book/bcop.ipynb.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import one_of, real, typed, whole
from nnlib.bcop.kernels import check_projectors, extend, projector
from nnlib.lipschitz import orthogonal_matrix, residual


@typed
@dataclass(frozen=True)
class Component:
    """What can't change on a path of invertible convolutions.

    Args:
        rows: Winding number of det What along the rows' angle.
        columns: Along the columns' angle.
        sign: Of det What(0), the determinant of the sum of all taps.
    """

    rows: int
    columns: int
    sign: int


@typed
def response(kernel: Tensor, angles: Tensor, axis: int = 3) -> Tensor:
    """The frequency response along one axis, at angle 0 on the other.

        What(theta) = sum_a W(a) exp(-i a theta)

    Args:
        kernel: Shape (c_out, c_in, k_h, k_w).
        angles: theta, shape (m).
        axis: 2 (rows) or 3 (columns).

    Returns:
        Shape (m, c_out, c_in), complex.

    Raises:
        TypeError: a kernel or angles that are no tensors of floating-point numbers.
        ValueError: a kernel or angles of another shape, or not finite; another axis.

    Source: arXiv 1911.00937, section 4.3. Chapter: book/bcop.ipynb

    >>> response(torch.eye(2)[:, :, None, None], torch.zeros(1)).real.tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    one_of((2, 3), axis=axis)
    real("c_out c_in k_h k_w", kernel=kernel)
    real("m", angles=angles)
    taps = kernel.sum(5 - axis)  # (c_out, c_in, k)
    steps = torch.arange(taps.shape[-1], device=taps.device, dtype=taps.dtype)
    waves = torch.polar(torch.ones_like(angles[:, None] * steps), -angles[:, None] * steps)  # (m, k)
    return torch.einsum("oik,mk->moi", taps.to(waves.dtype), waves)


@typed
def winding_number(kernel: Tensor, axis: int = 3) -> int:
    """How often det What goes round zero, clockwise, as the angle goes once round the circle.

    Args:
        kernel: Shape (n, n, k_h, k_w).
        axis: 2 or 3.

    Returns:
        m; for a BCOP kernel the sum of rank(I - P) over the projectors of that axis, from 0 to (k - 1) n.

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: another axis; a kernel that is not square, not finite, or not invertible at some frequency: it has
            no winding number.

    Source: arXiv 1911.00937, theorem 1. Chapter: book/bcop.ipynb

    >>> shift = torch.zeros(1, 1, 1, 2)
    >>> shift[..., 1] = 1.0
    >>> winding_number(shift)
    1
    """
    one_of((2, 3), axis=axis)
    real("n n k_h k_w", kernel=kernel)
    degree = kernel.shape[0] * (kernel.shape[axis] - 1)  # of det What, a polynomial in exp(-i theta)
    count = 64 * (degree + 1)
    angles = 2 * math.pi * torch.arange(count + 1, device=kernel.device, dtype=torch.float64) / count
    values = torch.linalg.det(response(kernel.detach().double(), angles, axis))
    turns = (values[1:] / values[:-1]).angle()
    # By a sixty-fourth of a turn a step at most where the kernel is orthogonal: a jump is a passage close to zero.
    if not (values.abs() > 1e-9).all() or not (turns.abs() <= math.pi / 2).all():  # NaN fails too
        raise ValueError("kernel is not invertible, or hardly, at some frequency: it has no winding number")
    return -round(turns.sum().item() / (2 * math.pi))


@typed
def component(kernel: Tensor) -> Component:
    """The winding numbers along both axes and the sign: kernels that differ in any are on different islands.

    Args:
        kernel: Shape (n, n, k_h, k_w), of an invertible convolution.

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel that is not square, not finite, or not invertible at some frequency.

    Source: arXiv 1911.00937, section 4.3. Chapter: book/bcop.ipynb

    >>> component(torch.eye(2)[:, :, None, None])
    Component(rows=0, columns=0, sign=1)
    """
    real("n n k_h k_w", kernel=kernel)
    sign = 1 if torch.linalg.det(kernel.detach().double().sum((2, 3))) > 0 else -1
    return Component(winding_number(kernel, 2), winding_number(kernel, 3), sign)


@typed
def islands(n: int, kernel_size: int) -> int:
    """Theorem 1: the number of connected components of the one-dimensional orthogonal convolutions, 2 (k - 1) n + 2.

    Args:
        n: Channels, at least 1.
        kernel_size: k, at least 1.

    Raises:
        ValueError: other numbers.

    Source: arXiv 1911.00937, theorem 1. Chapter: book/bcop.ipynb

    >>> islands(2, 3)
    10
    """
    whole(1, n=n, kernel_size=kernel_size)
    return 2 * (kernel_size - 1) * n + 2


@typed
def kernel_1d(h: Tensor, projectors: Sequence[Tensor]) -> Tensor:
    """[P_t, I - P_t] □ ... □ [P_1, I - P_1] □ H, shape (n, n, 1, t + 1).

    Args:
        h: Shape (n, n), orthogonal.
        projectors: P_1 to P_t, shape (n, n) each, of any ranks.

    Raises:
        TypeError: an h or a projector that is no tensor of floating-point numbers.
        ValueError: one of another shape, or not finite; an h that is not orthogonal, a projector that is none.

    Source: arXiv 1911.00937, section 4.1. Chapter: book/bcop.ipynb
    """
    n = real("n n", h=h)["n"]
    away = residual(h).item()
    if not away <= torch.finfo(h.dtype).eps ** 0.5:
        raise ValueError(f"h must be orthogonal: it is {away:.3g} from it")
    check_projectors(n, projectors=projectors)
    kernel = h[:, :, None, None]
    for p in projectors:
        kernel = extend(kernel, p, axis=3)
    return kernel


@typed
def island_kernel(n: int, ranks: Sequence[int], sign: int = 1, seed: int = 0) -> Tensor:
    """A random one-dimensional orthogonal convolution with projectors of these ranks, float64.

    Args:
        n: Channels, at least 1.
        ranks: Of P_1 to P_t, from 0 to n.
        sign: Of det H, 1 or -1.
        seed: Of H and of the projectors.

    Returns:
        Shape (n, n, 1, t + 1).

    Raises:
        ValueError: numbers out of range.

    Chapter: book/bcop.ipynb

    >>> component(island_kernel(2, [0, 1], sign=-1))
    Component(rows=0, columns=3, sign=-1)
    """
    whole(1, n=n)
    for rank in ranks:
        whole(0, n, ranks=rank)
    one_of((1, -1), sign=sign)
    h = orthogonal_matrix(n, n, seed)
    if torch.linalg.det(h) * sign < 0:
        h[0] *= -1
    return kernel_1d(h, [projector(n, rank, seed=seed + 1 + t) for t, rank in enumerate(ranks)])


@typed
def factorize_1d(kernel: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The matrix and the projectors of a one-dimensional orthogonal convolution: every one of them has such factors.

    The first and the last tap of an isometry have orthogonal ranges. With P the projector onto the range of the first,
    the inverse of [P, I - P] takes one tap off, and so on until a matrix is left.

    Args:
        kernel: Shape (n, n, 1, k).

    Returns:
        H and [P_1, ..., P_{k-1}] with ``kernel_1d(H, [P_1, ...])`` equal to the kernel.

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or of a convolution that is not orthogonal.

    Source: arXiv 1911.00937, section 4.1 (there without the algorithm). Chapter: book/bcop.ipynb

    >>> h, projectors = factorize_1d(island_kernel(3, [1, 2]))
    >>> len(projectors), h.shape
    (2, torch.Size([3, 3]))
    """
    real("n n 1 k", kernel=kernel)
    taps = kernel[:, :, 0].double()  # (n, n, k)
    found = []
    while taps.shape[-1] > 1:
        u, s, _ = torch.linalg.svd(taps[..., 0])
        basis = u[:, s > 1e-6]
        p = basis @ basis.mT
        if (p @ taps[..., -1]).abs().max() > 1e-6:
            raise ValueError("the first and the last tap of kernel share a range: the convolution is not orthogonal")
        # The inverse is the adjoint: tap j of the rest is P Y_j + (I - P) Y_{j+1}.
        early, late = taps[..., :-1], taps[..., 1:]
        taps = late + torch.einsum("pq,qik->pik", p, early - late)
        found.append(p)
    h = taps[..., 0]
    if (h @ h.mT - torch.eye(len(h), dtype=h.dtype, device=h.device)).abs().max() > 1e-6:
        raise ValueError("what projectors leave of kernel is no orthogonal matrix: neither was the convolution")
    return h, found[::-1]


@typed
def smallest_gain(kernel: Tensor, angles: int = 256) -> float:
    """The smallest singular value of a one-dimensional convolution over a grid of frequencies.

    Args:
        kernel: Shape (c_out, c_in, 1, k).
        angles: Size of the grid, at least 1.

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite; a grid without points.

    Chapter: book/bcop.ipynb

    >>> round(smallest_gain(island_kernel(2, [1, 1])), 6)
    1.0
    """
    real("c_out c_in 1 k", kernel=kernel)
    whole(1, angles=angles)
    grid = 2 * math.pi * torch.arange(angles, device=kernel.device, dtype=torch.float64) / angles
    return torch.linalg.svdvals(response(kernel.double(), grid)).min().item()
