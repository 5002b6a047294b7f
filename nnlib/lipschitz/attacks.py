"""Which perturbation does change the class? Projected gradient descent, and the check that no certificate is broken.

Paper: Madry et al., arXiv 1706.06083; used in arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import logsigmoid

from nnlib.arguments import one_of, real, seeded, shown, typed, whole, within
from nnlib.lipschitz.applied import applied
from nnlib.lipschitz.certificates import Certificate, check_labels, check_split, differences
from nnlib.lipschitz.layers import frozen
from nnlib.lipschitz.norms import known_norm
from nnlib.modes import evaluating


class CertificateBroken(AssertionError):
    """An attack changed the class of a point within its certified radius: the certificate was wrong."""


@typed
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    epsilon: float | Tensor,
    p: float = 2,
    *,
    steps: int = 100,
    step_size: float | None = None,
    from_x: bool = True,
    restarts: int = 9,
    losses: Sequence[str] = ("margin", "cross-entropy"),
    clamp: Sequence[float] | None = (0.0, 1.0),
    seed: int = 0,
) -> Tensor:
    """Attack by projected gradient descent on a loss of the logits, in the 2-norm or the inf-norm.

    The losses are the margin z_y - max_{j != y} z_j and the log-probability of the class, which leads elsewhere. Each
    step goes ``step_size`` epsilon along the steepest direction of the norm (the normalised gradient for 2, its sign
    for inf), then back into the ball around x and into the box. A point stays where its class first changes; those
    that keep theirs are attacked again, from each start with each loss.

    Args:
        model: Maps (n, ...) to logits (n, classes), or (n, 1) whose sign is the class; attacked in evaluation mode.
        x: Inputs, shape (n, ...).
        y: Labels, shape (n).
        epsilon: Radius, one number or one a point, >= 0.
        p: 2 or inf.
        steps: Of each descent, at least 1.
        step_size: Of every step, in units of epsilon, > 0; by default they fall along a line, from 0.5 to 0.
        from_x: Whether to start at x.
        restarts: Random starts in the ball, after that.
        losses: "margin", "cross-entropy", or both.
        clamp: The box of valid inputs, or None.
        seed: Of the random starts.

    Returns:
        Perturbed inputs, shape of x; no further than epsilon from it. Where no class changed, the end with the smallest
        margin.

    Raises:
        TypeError: inputs or labels of another dtype.
        ValueError: another norm, a radius that is negative or not finite, no step, start or loss, labels that are no
            classes, inputs that are not finite, outside the box or not what the model takes.

    Source: arXiv 1706.06083, section 2.1; arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    >>> _ = model.weight.copy_(torch.eye(2))
    >>> adversarial = pgd(model, torch.tensor([[0.6, 0.4]]), torch.tensor([0]), epsilon=0.2)
    >>> model(adversarial).argmax(1).item()
    1
    """
    known_norm((2, math.inf), p=p)
    real("n inputs ...", x=x)
    if clamp is not None:
        if len(clamp) != 2 or not all(isinstance(end, Real) for end in clamp) or not clamp[0] <= clamp[1]:
            raise ValueError(f"clamp must be None, or the lowest and the highest number: got {shown(clamp)}")
        if not ((x >= clamp[0]) & (x <= clamp[1])).all():
            raise ValueError(f"x must lie in the box {tuple(clamp)}: got values from {x.min():.3g} to {x.max():.3g}")
    whole(1, steps=steps)
    whole(0 if from_x else 1, restarts=restarts)
    if step_size is not None:
        within("(0, inf)", step_size=step_size)
    if not losses:
        raise ValueError("losses must be one or more: got none")
    for loss in losses:
        one_of(LOSSES, losses=loss)
    generator = seeded(seed)
    sizes = [0.5 * (1 - step / steps) if step_size is None else step_size for step in range(steps)]
    # Tensors of inference mode can't take part in a gradient: copies made outside it can.
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model), frozen(model):
        x, y = x.detach().clone(), y.detach().clone()
        radius = _radius(x, epsilon, p)
        with torch.no_grad():
            logits = applied(model, x=x)
            y = check_labels(y, **{"model(x)": logits})
            best, lowest = x.clone(), _margin(logits, y)
        for start in range(0 if from_x else 1, restarts + 1):
            point = x
            if start:
                noise = torch.empty(x.shape, dtype=torch.float64, device="cpu").uniform_(-1, 1, generator=generator)
                point = x + radius * noise.to(x)
            for number, loss in enumerate(losses):
                first = number == 0 and start == (0 if from_x else 1)
                left = torch.ones_like(lowest, dtype=torch.bool) if first else lowest > 0
                if not left.any():
                    return best
                ball = _Ball(x[left], radius[left], p, clamp)
                found, margin = _descend(model, ball, point[left], y[left], LOSSES[loss], sizes)
                better = left.clone()
                better[left] = margin < lowest[left] if not first else True
                best[better], lowest[better] = found[better[left]], margin[better[left]]
    return best


def _descend(
    model: nn.Module, ball: "_Ball", point: Tensor, y: Tensor, loss: Callable, sizes: list[float]
) -> tuple[Tensor, Tensor]:
    """The points where the class first changes, or else the last ones, and their margins."""
    point = ball.project(point)
    result, lowest = point, torch.full(y.shape, math.inf, dtype=point.dtype, device=point.device)
    shape = (-1, *[1] * (point.ndim - 1))
    for size in [*sizes, None]:
        point = point.detach().requires_grad_()
        logits = model(point)
        margin = _margin(logits.detach(), y)
        going = lowest > 0  # a NaN keeps the point where it was
        result, lowest = torch.where(going.view(shape), point.detach(), result), torch.where(going, margin, lowest)
        if size is None or (lowest <= 0).all():
            break
        (gradient,) = torch.autograd.grad(loss(logits, y).sum(), point)
        point = ball.project(point - size * ball.radius * ball.direction(gradient))
    return result, lowest


@dataclass(frozen=True)
class _Ball:
    """Where an attack may go: at most ``radius`` from x in the p-norm, and within the box."""

    x: Tensor
    radius: Tensor  # (n, 1, ...)
    p: float
    clamp: Sequence[float] | None

    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest direction of norm 1."""
        return gradient / self._length(gradient) if self.p == 2 else gradient.sign()

    def project(self, point: Tensor) -> Tensor:
        """Back into the ball, then into the box: it is convex and holds x, so that it brings a point closer to x."""
        delta = point - self.x
        if self.p == 2:
            delta = delta * (self.radius / self._length(delta)).clamp(max=1)
        else:
            delta = delta.clamp(-self.radius, self.radius)
        return self.x + delta if self.clamp is None else (self.x + delta).clamp(*self.clamp)

    def _length(self, delta: Tensor) -> Tensor:
        return vector_norm(delta.flatten(1), dim=1).view(self.radius.shape).clamp(min=torch.finfo(delta.dtype).tiny)


def _radius(x: Tensor, epsilon: float | Tensor, p: float) -> Tensor:
    """(n, 1, ...), so much below epsilon that rounding, of the projection and of adding to x, carries no point out."""
    shape, unit = (-1, *[1] * (x.ndim - 1)), torch.finfo(x.dtype).eps
    radius = torch.as_tensor(epsilon, dtype=x.dtype, device=x.device)
    if radius.shape not in ((), (len(x),)) or not ((radius >= 0) & radius.isfinite()).all():
        raise ValueError(
            f"epsilon must be one number or {len(x)}, one a point, at least 0 and finite: got {shown(epsilon)}"
        )
    radius = radius.expand(len(x)).view(shape)
    return (radius * (1 - 8 * unit) - unit * vector_norm(x.flatten(1), p, dim=1).view(shape)).clamp(min=0)


@typed
def accuracies(
    model: nn.Module, split: tuple[Tensor, Tensor], certificate: Certificate, epsilons: Sequence[float], **options
) -> list[dict[str, Any]]:
    """Clean, attacked and certified accuracy on the same points.

    Args:
        model: The network that was certified.
        split: The points that were certified.
        certificate: From :func:`nnlib.lipschitz.certify`, for p = 2 or inf.
        epsilons: Radii >= 0, in the norm of the certificate.
        options: For :func:`pgd`.

    Returns:
        A dict for each radius: ``epsilon, clean, attacked, certified``.

    Raises:
        CertificateBroken: where an attack succeeds within a certified radius.
        TypeError: as :func:`pgd` does.
        ValueError: a certificate of other points, or as :func:`pgd` does.

    Chapter: book/groupsort.ipynb
    """
    x, y = check_split(split)
    x = x.to(next(model.parameters(), x))
    for epsilon in epsilons:
        within("[0, inf)", epsilons=epsilon)
    if certificate.radius.shape != y.shape:
        raise ValueError(f"certificate must be of this split's {len(y)} points: got {len(certificate.radius)}")
    rows = []
    for epsilon in epsilons:
        attacked = pgd(model, x, y, epsilon, certificate.p, **options) if epsilon else x
        with torch.no_grad(), evaluating(model):
            logits = applied(model, split=attacked)
            y = check_labels(y, **{"model(x)": logits})
            survives = certificate.correct & (_margin(logits, y) > 0)
        safe = certificate.correct & (certificate.radius > epsilon)
        if broken := (safe & ~survives).nonzero().flatten().tolist():
            raise CertificateBroken(f"the attack within {epsilon} changed certified points {broken[:5]}")
        share = {"clean": certificate.correct, "attacked": survives, "certified": safe}
        rows.append({"epsilon": epsilon} | {name: which.double().mean().item() for name, which in share.items()})
    return rows


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return torch.where(y == 1, logits[:, 0], -logits[:, 0])
    return differences(logits, y).amin(1)


def _log_probability(logits: Tensor, y: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return logsigmoid(_margin(logits, y))
    return logits.log_softmax(1).gather(1, y[:, None])[:, 0]


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"margin": _margin, "cross-entropy": _log_probability}
