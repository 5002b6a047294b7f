"""Which perturbation does change the class? Projected gradient descent, and the check that no certificate is broken.

Paper: Madry et al., arXiv 1706.06083; used in arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from nnlib.lipschitz.certificates import Certificate, margins
from nnlib.modes import evaluating


class CertificateBroken(AssertionError):
    """An attack changed the class of a point within its certified radius: the certificate was wrong."""


@torch.enable_grad()
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    epsilon: float | Tensor,
    p: float = 2,
    *,
    steps: int = 40,
    step_size: float | None = None,
    clamp: tuple[float, float] | None = (0.0, 1.0),
    seed: int | None = 0,
) -> Tensor:
    """Attack by projected gradient descent on the margin z_y - max_{j != y} z_j, in the 2-norm or the inf-norm.

    Each step goes ``step_size`` epsilon along the steepest direction of the norm (the normalised gradient for 2, its
    sign for inf), then back into the ball around x and into the box. A point stays where its class first changes.

    Args:
        model: Maps (n, ...) to logits (n, classes), or (n, 1) whose sign is the class; attacked in evaluation mode.
        x: Inputs, shape (n, ...).
        y: Labels, shape (n).
        epsilon: Radius, one number or one a point.
        p: 2 or inf.
        steps: Number of steps.
        step_size: In units of epsilon; by default 2.5 / steps.
        clamp: The box of valid inputs, or None.
        seed: Of the random start in the ball; None starts at x.

    Returns:
        Perturbed inputs, shape of x; no further than epsilon from it.

    Raises:
        ValueError: another norm, a negative radius, or inputs outside the box.

    Source: arXiv 1706.06083, section 2.1; arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    >>> _ = model.weight.copy_(torch.eye(2))
    >>> adversarial = pgd(model, torch.tensor([[0.6, 0.4]]), torch.tensor([0]), epsilon=0.2)
    >>> model(adversarial).argmax(1).item()
    1
    """
    if p not in (2, math.inf):
        raise ValueError(f"p must be 2 or inf: got {p}")
    if clamp is not None and not ((x >= clamp[0]) & (x <= clamp[1])).all():
        raise ValueError(f"x must lie in the box {clamp}: got values from {x.min():.3g} to {x.max():.3g}")
    shape = (-1, *[1] * (x.ndim - 1))
    radius = torch.as_tensor(epsilon, dtype=x.dtype, device=x.device).expand(len(x)).view(shape)
    if not (radius >= 0).all():
        raise ValueError("epsilon must not be negative")
    # Rounding must not carry a point out of its ball, neither that of the projection nor that of adding it to x.
    unit = torch.finfo(x.dtype).eps
    radius = (radius * (1 - 8 * unit) - unit * vector_norm(x.flatten(1), p, dim=1).view(shape)).clamp(min=0)
    step_size = 2.5 / steps if step_size is None else step_size

    def project(point: Tensor) -> Tensor:
        delta = point - x
        if p == 2:
            length = vector_norm(delta.flatten(1), dim=1).view(shape)
            delta = delta * (radius / length.clamp(min=torch.finfo(x.dtype).tiny)).clamp(max=1)
        else:
            delta = delta.clamp(-radius, radius)
        # The box last: it is convex and holds x, so that it brings a point closer to x in both norms.
        return x + delta if clamp is None else (x + delta).clamp(*clamp)

    with evaluating(model):
        point = x
        if seed is not None:
            noise = torch.empty(x.shape, dtype=torch.float64, device="cpu")
            noise.uniform_(-1, 1, generator=torch.Generator("cpu").manual_seed(seed))
            point = project(x + radius * noise.to(x))
        result, found = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for step in range(steps + 1):
            point = point.detach().requires_grad_()
            margin = _margin(model(point), y)
            fooled = (margin.detach() <= 0) & ~found
            result = torch.where(fooled.view(shape), point.detach(), result)
            found |= fooled
            if step == steps or found.all():
                break
            (gradient,) = torch.autograd.grad(margin.sum(), point)
            if p == 2:
                length = vector_norm(gradient.flatten(1), dim=1).view(shape)
                direction = gradient / length.clamp(min=torch.finfo(x.dtype).tiny)
            else:
                direction = gradient.sign()
            point = project(point - step_size * radius * direction)
    return torch.where(found.view(shape), result, point.detach())


def accuracies(
    model: nn.Module, split: tuple[Tensor, Tensor], certificate: Certificate, epsilons: Sequence[float], **options
) -> list[dict[str, Any]]:
    """Clean, attacked and certified accuracy on the same points.

    Args:
        model: The network that was certified.
        split: The points that were certified.
        certificate: From :func:`nnlib.lipschitz.certify`, for p = 2 or inf.
        epsilons: Radii, in the norm of the certificate.
        options: For :func:`pgd`.

    Returns:
        A dict for each radius: ``epsilon, clean, attacked, certified``.

    Raises:
        CertificateBroken: where an attack succeeds within a certified radius.

    Chapter: book/groupsort.ipynb
    """
    x, y = split[0].to(next(model.parameters())), split[1]
    rows = []
    for epsilon in epsilons:
        attacked = pgd(model, x, y, epsilon, certificate.p, **options) if epsilon else x
        with torch.no_grad(), evaluating(model):
            survives = certificate.correct & (_margin(model(attacked), y) > 0)
        safe = certificate.correct & (certificate.radius > epsilon)
        if broken := (safe & ~survives).nonzero().flatten().tolist():
            raise CertificateBroken(f"the attack within {epsilon} changed certified points {broken[:5]}")
        share = {"clean": certificate.correct, "attacked": survives, "certified": safe}
        rows.append({"epsilon": epsilon} | {name: which.double().mean().item() for name, which in share.items()})
    return rows


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return torch.where(y == 1, logits[:, 0], -logits[:, 0])
    return margins(logits, y).amin(1)
