"""Which orthonormal matrix is nearest to W? Björck's iteration finds it with matrix products alone.

The answer is the polar factor U Vᵀ of W = U S Vᵀ. Each step pushes every singular value towards 1. Gradients are the
polar factor's (through the steps, or without them where that is cheaper: polar.py), so that a layer can train W and use
the orthonormal matrix.

Paper: Björck and Bowie 1971; as a layer in arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb.
"""

import math
from typing import Any

import torch
from torch import Tensor

from nnlib.arguments import shown, typed, whole, within
from nnlib.lipschitz.polar import Polar
from nnlib.lipschitz.values import asks_backward, readable

# (1 - q)^(-1/2) = sum_i a_i q^i, with a_i = binomial(2 i, i) / 4^i: 1, 1/2, 3/8, 5/16, 35/128
COEFFICIENTS = tuple(math.comb(2 * i, i) / 4**i for i in range(5))
# Singular values from 0 up to here (excluded) go to 1 under steps of that order; beyond, to another value or nowhere.
BASIN = {1: math.sqrt(3), 2: math.sqrt(7 / 3), 3: 1.5887, 4: 1.4939}
# A singular value of 1e-12 of the largest needs no more, and one of 1e-17, which is rounding, stays small.
MAX_STEPS = {1: 75, 2: 50, 3: 42, 4: 38}
# Condition numbers up to about 5 have a residual below 1 by this step.
WELL_CONDITIONED = {1: 7, 2: 4, 3: 4, 4: 3}
SMALL = 128**2  # entries of W Wᵀ up to which the calls take the time, and not the products


@typed
def bjorck(
    weight: Tensor,
    order: int = 2,
    *,
    tolerance: float | None = None,
    steps: int | None = None,
    scale: Tensor | float | None = None,
) -> Tensor:
    """The orthonormal matrix nearest to each of a batch of matrices: rows or columns, whichever are fewer.

    With A_0 = W / scale and (for m <= n; else transposed) Q = I - A Aᵀ,

        A <- (sum_{i=0..order} a_i Qⁱ) A,    a_i = binomial(2i, i) / 4ⁱ.

    One step takes a residual ‖Q‖ < 1 to at most ‖Q‖^(order + 1). So steps go on until that power is within the
    tolerance, and no product is spent on looking afterwards; at least one step is taken, because it carries the
    derivative. An order p costs p + 1 products a step (orders 3 and 4 both cost 4). Where values can't be looked at
    (``torch.compile``, ``torch.export``, ``vmap`` over weights), as many steps are taken as the worst case needs.

    The gradient is that of the polar factor. Large float32 matrices on a CPU with a condition number up to about 5 get
    it from W and the result (``nnlib.lipschitz.polar``); else, and for a derivative of the
    gradient, it is followed back through the steps, which comes to the same within the tolerance.

    Args:
        weight: W, shape (..., m, n), float32 or float64, of full rank: a singular value 0 stays 0.
        order: Of the polynomial, 1 to 4.
        tolerance: Largest Frobenius norm of Q of a matrix at the end, >= 0; by default 8 times the machine precision.
        steps: Take exactly this many steps instead, at least 1, whatever the residual.
        scale: Divides W at the start, > 0, a number or one for each matrix, (..., 1, 1); no gradient flows through it.
            By default :func:`norm_bound`, which is never below the largest singular value, so that all start in (0, 1].
            Even orders first try the c that minimises ‖I - W Wᵀ / c²‖_F, which saves a step, and start again with the
            bound if that left the basin.

    Returns:
        Shape (..., m, n), singular values 1. Where W has no full rank the smallest stay below 1: see :func:`residual`.

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: another precision, fewer than two axes, an order outside 1 to 4, numbers out of range, or a matrix
            that is zero or not finite.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> weight = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> rows = bjorck(weight)
    >>> bool(torch.allclose(rows @ rows.mT, torch.eye(4, dtype=torch.float64)))
    True
    """
    _matrices(weight)
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"weight must be float32 or float64, lower precision can't be orthonormal: got {weight.dtype}")
    whole(1, 4, order=order)
    if steps is not None:
        whole(1, steps=steps)
    if tolerance is not None:
        within("[0, inf)", tolerance=tolerance)
    if scale is not None and readable(weight):
        given = torch.as_tensor(scale, dtype=weight.dtype, device=weight.device)
        _check_scale(weight.detach(), given, order, exactly=steps is not None)
    tall = weight.shape[-2] > weight.shape[-1]
    wide = weight.mT if tall else weight
    tolerance = 8 * torch.finfo(weight.dtype).eps if tolerance is None else tolerance

    def through_steps(w: Tensor) -> Tensor:
        return _iterate(w, order, tolerance, steps, scale)

    polar = None
    if steps is None and scale is None and asks_backward(weight) and _large(wide):
        with torch.no_grad():
            polar = _iterate(wide, order, tolerance, None, None, WELL_CONDITIONED[order])
    found = through_steps(wide) if polar is None else Polar.apply(wide, polar, through_steps)
    return found.mT if tall else found


def _large(weight: Tensor) -> bool:
    """Whether the derivative without the steps is cheaper; in float64 it takes as many products as that with them."""
    return weight.is_cpu and weight.dtype == torch.float32 and weight.shape[-2] * weight.shape[:-1].numel() > SMALL


def _iterate(
    weight: Tensor,
    order: int,
    tolerance: float,
    steps: int | None,
    scale: Tensor | float | None,
    patience: int | None = None,
) -> Any:
    """The steps; None if at step ``patience`` the residual is not below 1."""
    looking = steps is None and readable(weight)
    gram = weight @ weight.mT  # (..., m, m)
    # An even polynomial is positive: whatever converges is the polar factor, so a scale may be tried.
    guessed = looking and scale is None and order % 2 == 0
    if scale is None:
        scale = _gram_guess(gram.detach()) if guessed else _gram_bound(gram.detach())
    scale = torch.as_tensor(scale, dtype=weight.dtype, device=weight.device)
    if not guessed and readable(weight) and not ((scale > 0) & scale.isfinite()).all():
        raise ValueError("weight holds a matrix that is zero or not finite: it has no nearest orthonormal matrix")
    identity = torch.eye(weight.shape[-2], dtype=weight.dtype, device=weight.device)
    basin = math.sqrt(len(identity)) * (BASIN[order] ** 2 - 1)  # no residual within it is larger
    a = weight / scale
    q = identity - gram / scale**2
    for step in range(1, (MAX_STEPS[order] if steps is None else steps) + 1):
        left = torch.linalg.matrix_norm(q.detach()).amax().item() if looking else math.inf
        if guessed and not left <= basin:
            return _iterate(weight, order, tolerance, steps, _gram_bound(gram.detach()), patience)
        if step == patience and left >= 1:
            return None
        a = _polynomial(q, identity, order) @ a
        if left ** (order + 1) <= tolerance or step == steps:
            return a
        q = identity - a @ a.mT
    return a


def _polynomial(q: Tensor, identity: Tensor, order: int) -> Tensor:
    """Sum of a_i Qⁱ, i = 0..order, in as few products as there are: 0, 1, 2, 2."""
    _, a1, a2, a3, a4 = COEFFICIENTS
    if order == 1:
        return identity + a1 * q
    square = q @ q
    if order == 2:
        return identity + a1 * q + a2 * square
    high = a2 * identity + a3 * q + (a4 * square if order == 4 else 0)
    return identity + a1 * q + square @ high


@typed
def norm_bound(weight: Tensor) -> Tensor:
    """A number that is never below the largest singular value, and equals it where rows or columns are orthogonal.

        sigma_max(W)² = sigma_max(G) <= min(‖G‖_inf, ‖G‖_F),    G the smaller of W Wᵀ and Wᵀ W

    Args:
        weight: Shape (..., m, n).

    Returns:
        Shape (..., 1, 1).

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: fewer than two axes, or an empty one; a weight that is not finite, where its values can be read.

    Chapter: book/groupsort.ipynb

    >>> round(norm_bound(3 * torch.eye(5)).item(), 4)
    3.0
    """
    _finite(weight)
    return _gram_bound(weight @ weight.mT if weight.shape[-2] <= weight.shape[-1] else weight.mT @ weight)


def _gram_guess(gram: Tensor) -> Tensor:
    """The c that minimises ‖I - G / c²‖_F, or what an estimate of the largest singular value asks for."""
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    gram = gram / trace  # so that no power overflows
    start = gram @ gram.sum(-1, keepdim=True)  # (..., m, 1)
    largest = _norm(gram @ start) / _norm(start)  # never above sigma_max²
    return (torch.maximum(_norm(gram) ** 2, largest / 1.25**2) * trace).sqrt()


def _norm(matrix: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrix, keepdim=True)  # (..., 1, 1)


def _gram_bound(gram: Tensor) -> Tensor:
    rows = gram.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)  # (..., 1, 1)
    unit = rows.clamp(min=torch.finfo(gram.dtype).tiny)  # so that no square is 0 or infinite
    frobenius = unit * _norm(gram / unit)
    margin = 1 + 4 * gram.shape[-1] * torch.finfo(gram.dtype).eps  # of the sums' rounding
    return torch.minimum(rows, frobenius).sqrt() * margin


@typed
def residual(weight: Tensor) -> Tensor:
    """How far rows or columns (whichever are fewer) are from orthonormal: ‖I - W Wᵀ‖_F, measured in float64.

    Every singular value s has |1 - s²| <= residual, so sigma_max <= sqrt(1 + residual).

    Args:
        weight: Shape (..., m, n).

    Returns:
        Shape (...), float64.

    Raises:
        TypeError: a weight that is no tensor of floating-point numbers.
        ValueError: fewer than two axes, or an empty one; a weight that is not finite, where its values can be read.

    Chapter: book/groupsort.ipynb

    >>> residual(torch.eye(3, 5)).item()
    0.0
    """
    _finite(weight)
    wide = weight if weight.shape[-2] <= weight.shape[-1] else weight.mT
    wide = wide.double()
    identity = torch.eye(wide.shape[-2], dtype=wide.dtype, device=wide.device)
    return torch.linalg.matrix_norm(identity - wide @ wide.mT)


def _matrices(weight: Tensor) -> None:
    """Refuse what is no batch of matrices of real numbers."""
    if not weight.is_floating_point():
        raise TypeError(f"weight must be a tensor of real numbers: got {shown(weight)}")
    if weight.ndim < 2 or not weight.numel():
        raise ValueError(f"weight must have shape (..., m, n), no axis empty: got {tuple(weight.shape)}")


def _finite(weight: Tensor) -> None:
    _matrices(weight)
    if readable(weight) and not weight.isfinite().all():
        raise ValueError("weight must hold finite numbers: it holds some that are not")


def _check_scale(weight: Tensor, scale: Tensor, order: int, *, exactly: bool) -> None:
    """Refuse a scale from which steps that go on until they converge would not."""
    if scale.shape and scale.shape[-2:] != (1, 1):
        raise ValueError(f"scale must be a number or have shape (..., 1, 1): got {tuple(scale.shape)}")
    if not ((scale > 0) & scale.isfinite()).all():
        raise ValueError(f"scale must be positive and finite: got {shown(scale.flatten().tolist())}")
    if exactly:
        return
    if not weight.isfinite().all():
        raise ValueError("weight holds a matrix that is zero or not finite: it has no nearest orthonormal matrix")
    largest = torch.linalg.matrix_norm(weight, 2, keepdim=True) / scale  # (..., 1, 1)
    if not ((largest > 1e-12) & (largest < BASIN[order])).all():
        raise ValueError(
            f"scale must bring the largest singular value of each matrix in weight to between 1e-12 and "
            f"{BASIN[order]:.4g}, where steps of order {order} converge: it is {largest.max():.3g}"
        )
