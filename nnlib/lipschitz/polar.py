"""How does the nearest orthonormal matrix move with W? Its derivative, from W and the matrix, not from the steps to it.

With rows orthonormal, W = H P and H = (W Wᵀ)^½. Differentiating W = H P and P Pᵀ = I gives

    dP = X P + H⁻¹ dW (I - Pᵀ P),    X skew,    H X + X H = dW Pᵀ - P dWᵀ.

X -> H X + X H is symmetric and positive definite, so its equation is solved by conjugate gradients, at one product an
iteration. Source: Higham, Functions of Matrices (2008), section 8.2. Chapter: book/groupsort.ipynb.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nnlib.lipschitz.values import plain

MAX_ITERATIONS = 32  # about as many products as the way back through the steps takes


class Polar(torch.autograd.Function):
    """(W, P, steps) -> P, whose gradient is the polar factor's.

    ``steps`` computes P from W with a graph: the way back goes through it where a graph of the gradient is asked for,
    where the gradient comes in batches (``vmap``), and where the equation is too badly conditioned.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, polar: Tensor, steps: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(weight, polar)
        ctx.steps = steps
        return polar.clone()  # may be changed in place by whoever asked for it

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, polar = ctx.saved_tensors
        with torch.autocast(weight.device.type, enabled=False):
            if not torch.is_grad_enabled() and plain(gradient):
                found = polar_gradient(weight, polar, gradient)
                if found is not None:
                    return found, None, None
            again = torch.is_grad_enabled()
            with torch.enable_grad():
                weight = weight.view_as(weight) if again else weight.detach().requires_grad_()
                (found,) = torch.autograd.grad(ctx.steps(weight), weight, gradient, create_graph=again)
        return found, None, None


def polar_gradient(weight: Tensor, polar: Tensor, gradient: Tensor) -> Tensor | None:
    """The gradient by W, from the gradient D by its polar factor P; the adjoint of the module's formula:

        2 Y P + H⁻¹ D (I - Pᵀ P),    Y skew,    H Y + Y H = (D Pᵀ - P Dᵀ) / 2.

    Args:
        weight: W, shape (..., m, n), m <= n.
        polar: P, its nearest matrix with orthonormal rows, shape (..., m, n).
        gradient: D, shape (..., m, n).

    Returns:
        Shape (..., m, n), or None where H is too badly conditioned.

    Chapter: book/groupsort.ipynb

    >>> weight, direction = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]])
    >>> polar_gradient(weight, weight / 5, direction)  # of w / |w|: (direction - its part along w) / |w|
    tensor([[ 0.1280, -0.0960]])
    """
    h = weight @ polar.mT  # (..., m, m)
    inner = gradient @ polar.mT  # (..., m, m)
    y = _conjugate_gradients(h, (inner - inner.mT) / 2)
    if y is None:
        return None
    found = 2 * y @ polar
    if weight.shape[-2] < weight.shape[-1]:
        factor, failed = torch.linalg.cholesky_ex(h)
        if failed.any():
            return None
        found += torch.cholesky_solve(gradient - inner @ polar, factor)
    return found


def _conjugate_gradients(h: Tensor, right: Tensor) -> Tensor | None:
    """The skew Y with H Y + Y H = right, for a batch of positive definite H, (..., m, m), and skew right sides.

    The batch is one system with one step size, so each matrix of it is first brought to size one.
    """
    eps, tiny = torch.finfo(h.dtype).eps, torch.finfo(h.dtype).tiny
    trace = h.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    unit = right.abs().amax((-2, -1), keepdim=True).clamp(min=tiny)
    h, left = h / trace, right / unit  # what is left of the right side
    y, direction = torch.zeros_like(left), left.clone()
    flat = [x.view(-1) for x in (left, direction)]
    square = torch.dot(flat[0], flat[0]).item()
    goal = square * (8 * eps) ** 2
    for _ in range(MAX_ITERATIONS):
        if square <= goal:
            return y.mul_(unit / trace)
        image = h @ direction
        image = image - image.mT  # Y H = -(H Y)ᵀ
        size = square / torch.dot(flat[1], image.view(-1)).item()
        y.add_(direction, alpha=size)
        left.sub_(image, alpha=size)
        before, square = square, torch.dot(flat[0], flat[0]).item()
        direction.mul_(square / before).add_(left)
    return None
