"""A loss on the sphere: the smallest problem whose weights have a length that nothing but the optimiser sees.

L(theta) = 1/2 u' H u with u = theta/|theta|, and a gradient with noise. Its curvature along the sphere is known,
so SGD, Adam and K-FAC can be followed step by step.
Paper: arXiv 1810.12281, sections 4.1 and 4.3. Chapter: ``book/weight_decay.ipynb``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nnlib.cholesky import cholesky


@dataclass(frozen=True)
class Sphere:
    """L(theta) = 1/2 u' H u, u = theta/|theta|, smallest where u is the eigenvector of the smallest eigenvalue.

    Args:
        H: Symmetric and positive definite, (d, d), d at least 2.
        noise: Standard deviation of the gradient's noise at |theta| = 1, along each axis; not negative.

    Raises:
        ValueError: for another matrix or negative noise.

    >>> Sphere(torch.diag(torch.tensor([1.0, 3.0]))).loss(torch.tensor([0.0, 5.0]))
    tensor(1.5000)
    """

    H: Tensor
    noise: float = 0.0

    def __post_init__(self):
        square = self.H.ndim == 2 and len(self.H) == self.H.shape[1] >= 2
        wanted = f"H must be symmetric positive definite, 2 x 2 or larger: got {self.H}"
        if not (square and torch.allclose(self.H, self.H.mT)):
            raise ValueError(wanted)
        cholesky(self.H, wanted)
        if not self.noise >= 0:
            raise ValueError(f"noise must not be negative: got {self.noise}")

    def loss(self, theta: Tensor) -> Tensor:
        """L for theta of shape (..., d): shape (...)."""
        u = theta / theta.norm(dim=-1, keepdim=True)
        return 0.5 * (u * (u @ self.H)).sum(-1)

    def gradient(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """P (H u + noise)/|theta|, P = I - u u': orthogonal to theta, and the shorter the longer theta is: (..., d).

        Args:
            theta: Shape (..., d); all see the same noise.
            generator: On theta's device; without it the gradient has no noise.
        """
        norm = theta.norm(dim=-1, keepdim=True)
        u = theta / norm
        g = u @ self.H
        if generator is not None:
            g = g + self.noise * torch.randn(len(self.H), generator=generator, dtype=g.dtype, device=g.device)
        return (g - (g * u).sum(-1, keepdim=True) * u) / norm

    def curvature(self, theta: Tensor) -> Tensor:
        """C(theta) = P H P/|theta|^2, (..., d, d): a metric along the sphere; scales as a Gauss-Newton matrix."""
        norm = theta.norm(dim=-1, keepdim=True)[..., None]  # (..., 1, 1)
        u = theta[..., None] / norm  # (..., d, 1)
        P = torch.eye(len(self.H), dtype=u.dtype, device=u.device) - u * u.mT
        return P @ self.H @ P / norm.square()


class Walk(NamedTuple):
    """What :func:`walk` saw before each step and after the last: tensors of shape (steps + 1, ...).

    ``norm`` |theta|; ``loss``; ``gradient`` |g_hat|, of the noisy gradient at theta/|theta|; ``turn``, the angle in
    radians by which the step that follows turns theta.
    """

    norm: Tensor
    loss: Tensor
    gradient: Tensor
    turn: Tensor


def walk(
    problem: Sphere,
    theta: Tensor,
    method: str,
    lr: float | Tensor,
    steps: int,
    *,
    weight_decay: float | Tensor = 0.0,
    damping: float = 0.0,
    seed: int = 0,
) -> Walk:
    """Follow one optimiser with decoupled decay, without momentum, from theta; or several at once, with one noise.

    SGD: g; Adam with beta_1 = 0, beta_2 = 0.9, eps = 0: g/sqrt(v), v without start-up bias; K-FAC: (C + damping I)^-1 g
    with the problem's own curvature C.

    Args:
        problem: The loss.
        theta: Start, (..., d); it is not changed.
        method: ``SGD``, ``Adam`` or ``K-FAC``.
        lr: Learning rate, positive; a number or one for each walk, (...).
        steps: At least 1.
        weight_decay: Not negative, lr * weight_decay < 1; a number or one for each walk.
        damping: Of K-FAC, not negative.
        seed: Of the gradient's noise.

    Raises:
        ValueError: for another method or a number out of range.

    Source: arXiv 1810.12281, sections 4.1 and 4.3. Chapter: ``book/weight_decay.ipynb``.

    >>> path = walk(Sphere(torch.eye(2), noise=1.0), torch.ones(2), "SGD", lr=0.1, steps=50)
    >>> bool((path.norm.diff() >= 0).all())
    True
    """
    if method not in ("SGD", "Adam", "K-FAC"):
        raise ValueError(f"method must be SGD, Adam or K-FAC: got {method!r}")
    rate, decay = (torch.as_tensor(v, dtype=theta.dtype, device=theta.device)[..., None] for v in (lr, weight_decay))
    good = (rate > 0).all() and (decay >= 0).all() and (rate * decay < 1).all()
    if not (good and steps >= 1 and damping >= 0):
        raise ValueError(
            "lr > 0, steps >= 1, weight_decay >= 0, damping >= 0 and lr * weight_decay < 1 are needed: "
            f"got {lr}, {steps}, {weight_decay} and {damping}"
        )
    generator = torch.Generator(theta.device).manual_seed(seed)
    theta = theta + torch.zeros_like(rate * decay)  # one row a walk
    v, rows = torch.zeros_like(theta), []
    for step in range(steps + 1):
        g = problem.gradient(theta, generator)
        norm = theta.norm(dim=-1)
        row = [norm, problem.loss(theta), g.norm(dim=-1) * norm]
        if method == "Adam":
            v = 0.9 * v + 0.1 * g.square()
            g = g / (v / (1 - 0.9 ** (step + 1))).sqrt()
        elif method == "K-FAC":
            g = _natural(problem.curvature(theta), g, damping)
        new = (1 - rate * decay) * theta - rate * g
        rows.append(torch.stack([*row, angle(theta, new)]))
        theta = new
    return Walk(*torch.stack(rows, 1))


def angle(a: Tensor, b: Tensor) -> Tensor:
    """The angle between vectors (..., d) in radians, also where it is small: shape (...)."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def _natural(C: Tensor, g: Tensor, damping: float) -> Tensor:
    """(C + damping I)^-1 g; without damping C^+ g, since C is singular along theta, where g has no part."""
    if damping == 0:
        return (torch.linalg.pinv(C, hermitian=True, rtol=1e-9) @ g[..., None])[..., 0]
    damped = C + damping * torch.eye(g.shape[-1], dtype=g.dtype, device=g.device)
    return torch.linalg.solve(damped, g[..., None])[..., 0]
