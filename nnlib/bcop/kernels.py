"""How are all orthogonal convolutions built from orthogonal matrices and projectors? Kernels, and the algebra on them.

A kernel of shape (c_out, c_in, h, w) is a small image of matrices. Applying one convolution after another convolves
these images, with matrix products in place of products: the block convolution.

Paper: Li et al., arXiv 1911.00937, section 4. Chapter: book/bcop.ipynb.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from nnlib.arguments import one_of, real, seeded, shown, typed, whole


@typed
def block_convolution(x: Tensor, y: Tensor) -> Tensor:
    """The kernel of "first y, then x".

        [X □ Y](i, j) = sum_{i', j'} X(i', j') Y(i - i', j - j')

    Args:
        x: Shape (c_out, c, h, w).
        y: Shape (c, c_in, h', w').

    Returns:
        Shape (c_out, c_in, h + h' - 1, w + w' - 1).

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or where the channels between them differ.

    Source: arXiv 1911.00937, section 4.1. Chapter: book/bcop.ipynb

    >>> block_convolution(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2)).flatten().tolist()
    [1.0, 2.0, 1.0]
    """
    real("c_out c h w", finite=False, x=x)
    real("c c_in h' w'", finite=False, y=y)
    if x.shape[1] != y.shape[0]:
        raise ValueError(f"x must take as many channels as y gives: got {tuple(x.shape)} and {tuple(y.shape)}")
    reach = (x.shape[-2] - 1, x.shape[-1] - 1)
    return conv2d(y.transpose(0, 1), x.flip(-2, -1), padding=reach).transpose(0, 1)


@typed
def extend(kernel: Tensor, basis: Tensor, axis: int) -> Tensor:
    """One more tap along an axis: [P, I - P] □ kernel, with the projector P = R Rᵀ.

    Tap i becomes P K_i + (I - P) K_{i-1}, which is two products with R for all taps together.

    Args:
        kernel: K, shape (c, n, h, w).
        basis: R, shape (c, r), orthonormal columns; some may be zero. A projector is a basis of itself, P Pᵀ = P.
        axis: 2 or -2 (rows) or 3 or -1 (columns).

    Returns:
        Shape (c, n, h + 1, w) or (c, n, h, w + 1).

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel or a basis of another shape, or another axis.

    Source: arXiv 1911.00937, section 4.1. Chapter: book/bcop.ipynb

    >>> identity = torch.eye(2)[:, :, None, None]
    >>> half = extend(identity, torch.tensor([[1.0], [0.0]]), axis=3)  # (2, 2, 1, 2)
    >>> half[:, :, 0, 0].tolist(), half[:, :, 0, 1].tolist()
    ([[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]])
    """
    one_of((2, -2, 3, -1), axis=axis)
    real("c n h w", finite=False, kernel=kernel)
    _check_bases(2, len(kernel), basis=basis)
    return add_tap(kernel, basis, axis)


def add_tap(kernel: Tensor, basis: Tensor, axis: int) -> Tensor:
    """As :func:`extend`, of arguments that were looked at.

    >>> add_tap(torch.ones(1, 1, 1, 1), torch.ones(1, 1), axis=3).flatten().tolist()
    [1.0, 0.0]
    """
    rows = axis in (2, -2)
    here = pad(kernel, (0, 0, 0, 1) if rows else (0, 1))  # K_i
    before = pad(kernel, (0, 0, 1, 0) if rows else (1, 0))  # K_{i-1}
    step = (here - before).flatten(1)  # (c, n taps)
    return before + (basis @ (basis.mT @ step)).view_as(before)


@typed
def bcop_kernel(h: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The kernel of a BCOP convolution: a matrix, extended by one projector along each axis in turn.

        K = [P_t; I - P_t] □ [Q_t, I - Q_t] □ ... □ [P_1; I - P_1] □ [Q_1, I - Q_1] □ H

    Where c_out < c_in, the kernel of the transposed matrix is built and transposed.

    Args:
        h: H, shape (c_out, c_in), orthonormal rows or columns.
        rows: Bases of the P, shape (k_h - 1, c, r), with c = max(c_out, c_in).
        columns: Bases of the Q, shape (k_w - 1, c, r).

    Returns:
        Shape (c_out, c_in, k_h, k_w). With circular padding it is an isometry for c_in <= c_out, and its transpose is
        one for c_out <= c_in.

    Raises:
        TypeError: an h that is no tensor of floating-point numbers.
        ValueError: an h that is no matrix, or bases of another shape.

    Source: arXiv 1911.00937, section 4.2 and appendix. Chapter: book/bcop.ipynb

    >>> from nnlib.lipschitz import orthogonal_matrix
    >>> bases = torch.stack([orthogonal_matrix(4, 2, seed) for seed in range(4)])  # (4, 4, 2)
    >>> kernel = bcop_kernel(orthogonal_matrix(4, 3, seed=4), bases[:2], bases[2:])
    >>> kernel.shape, round(kernel.square().sum().item(), 6)  # c_in singular values 1 a pixel
    (torch.Size([4, 3, 3, 3]), 3.0)
    """
    real("c_out c_in", finite=False, h=h)
    if h.shape[0] < h.shape[1]:
        return bcop_kernel(h.mT, rows, columns).transpose(0, 1)
    _check_bases(3, len(h), rows=rows, columns=columns)
    kernel = h[:, :, None, None]
    for t in range(max(len(rows), len(columns))):
        if t < len(columns):
            kernel = add_tap(kernel, columns[t], axis=3)
        if t < len(rows):
            kernel = add_tap(kernel, rows[t], axis=2)
    return kernel


def _check_bases(axes: int, channels: int, **named: Tensor) -> None:
    """Refuse what can't be bases of projectors; there may be none of them, and of no column."""
    for name, bases in named.items():
        if not bases.is_floating_point() or bases.ndim != axes or bases.shape[-2] != channels:
            shape = f"({'k - 1, ' if axes == 3 else ''}{channels}, r)"
            raise ValueError(f"{name} must have shape {shape}, and act on {channels} channels: got {shown(bases)}")


def check_projectors(n: int, **named: Tensor | Sequence[Tensor]) -> None:
    """Refuse what are no projectors, P Pᵀ = P of shape (n, n) each, up to rounding; there may be none.

    >>> check_projectors(2, rows=torch.full((1, 2, 2), 0.4))
    Traceback (most recent call last):
    ValueError: rows must hold projectors, P Pᵀ = P: one is 0.08 from it
    """
    for name, projectors in named.items():
        for p in projectors:
            one: Any = {name: p}
            real("n n", {"n": n}, **one)
            away = (p @ p.mT - p).abs().max().item()
            if not away <= torch.finfo(p.dtype).eps ** 0.5:
                raise ValueError(f"{name} must hold projectors, P Pᵀ = P: one is {away:.3g} from it")


@typed
def gram_kernel(kernel: Tensor) -> Tensor:
    """The kernel of KᵀK, or of K Kᵀ where that is smaller: the identity in the middle tap iff K is orthogonal.

        A(a, b) = sum_{i, j} W(i, j)ᵀ W(i + a, j + b)    or    sum_{i, j} W(i + a, j + b) W(i, j)ᵀ

    Args:
        kernel: Shape (c_out, c_in, k_h, k_w).

    Returns:
        Shape (c, c, 2 k_h - 1, 2 k_w - 1), c = min(c_out, c_in).

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite.

    Source: arXiv 1911.00937, section 3. Chapter: book/bcop.ipynb

    >>> gram_kernel(torch.eye(2)[:, :, None, None]).squeeze().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    real("c_out c_in k_h k_w", kernel=kernel)
    adjoint = kernel.transpose(0, 1).flip(-2, -1)  # its operator is the transpose
    if kernel.shape[0] < kernel.shape[1]:
        return block_convolution(kernel, adjoint)
    return block_convolution(adjoint, kernel)


@typed
def orthogonality_residual(kernel: Tensor) -> float:
    """How far a convolution is from orthogonal, at every image size and for both paddings, in float64.

        residual = sum_{a, b} ‖A(a, b) - [a = b = 0] I‖_F

    KᵀK - I is itself a convolution, with these taps, so its norm is at most their sum. So every singular value s of the
    circular convolution has |s² - 1| <= residual, and with zero padding s² <= 1 + residual.

    Args:
        kernel: Shape (c_out, c_in, k_h, k_w).

    Raises:
        TypeError: a kernel that is no tensor of floating-point numbers.
        ValueError: a kernel of another shape, or not finite.

    Chapter: book/bcop.ipynb

    >>> orthogonality_residual(torch.eye(2)[:, :, None, None])
    0.0
    """
    real("c_out c_in k_h k_w", kernel=kernel)
    gram = gram_kernel(kernel.detach().double())
    gram[:, :, kernel.shape[-2] - 1, kernel.shape[-1] - 1] -= torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.matrix_norm(gram, dim=(0, 1)).sum().item()


@typed
def projector(n: int, rank: int, seed: int | None = None) -> Tensor:
    """A symmetric projector of a rank, float64: onto the first coordinates, or onto a random subspace.

    Args:
        n: Size of the matrix.
        rank: From 0 to n.
        seed: Of the subspace; None: the first ``rank`` coordinates.

    Raises:
        ValueError: a size below 1, a rank out of range, or another seed.

    Chapter: book/bcop.ipynb

    >>> projector(3, 1).diagonal().tolist()
    [1.0, 0.0, 0.0]
    """
    whole(1, n=n)
    whole(0, n, rank=rank)
    with torch.device("cpu"):
        basis = torch.eye(n, dtype=torch.float64)[:, :rank]
        if seed is not None:
            noise = torch.randn(n, n, dtype=torch.float64, generator=seeded(seed))
            basis = torch.linalg.qr(noise).Q[:, :rank]
    return basis @ basis.mT


@typed
def double(h: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Theorem 2: the same convolution as the corner of one with twice the channels and projectors of half rank.

        H' = diag(H, I),    P' = diag(P, P~),    rank P~ = n - rank P

    Args:
        h: H, shape (n, n).
        rows: Projectors P (not bases), shape (k_h - 1, n, n), of any ranks.
        columns: Projectors Q, shape (k_w - 1, n, n).

    Returns:
        Of twice the size, for :func:`bcop_kernel`: the top left n x n block of that kernel is the old kernel.

    Raises:
        TypeError: an h that is no tensor of floating-point numbers.
        ValueError: an h that is not square or not finite, or rows or columns that are no projectors on its n channels.

    Source: arXiv 1911.00937, theorem 2. Chapter: book/bcop.ipynb

    >>> h, rows, columns = double(torch.eye(2).double(), projector(2, 0)[None], projector(2, 2)[None])
    >>> rows[0].trace().item(), columns[0].trace().item()
    (2.0, 2.0)
    """
    n = real("n n", h=h)["n"]
    check_projectors(n, rows=rows, columns=columns)

    def doubled(projectors: Tensor) -> Tensor:
        other = [projector(n, n - round(p.trace().item())).to(p) for p in projectors]
        pairs = [torch.block_diag(p, q) for p, q in zip(projectors, other, strict=True)]
        return torch.stack(pairs) if pairs else projectors.new_zeros(0, 2 * n, 2 * n)

    identity = torch.eye(n, dtype=h.dtype, device=h.device)
    return torch.block_diag(h, identity), doubled(rows), doubled(columns)
