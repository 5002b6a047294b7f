"""Within which distance can no perturbation change the predicted class? Margins over Lipschitz constants.

A certificate is only as good as its constant: the bound is measured on the weights in use, what rounding may do is
taken off the margin, and a layer too far from its constraint is refused.

Paper: arXiv 1811.05381, section 5; Tsuzuku et al., arXiv 1802.04034. Chapter: book/groupsort.ipynb.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import linear

from nnlib.lipschitz.network import Followed, follow
from nnlib.lipschitz.norms import DUAL, dense_norm
from nnlib.lipschitz.rounding import unit_roundoff
from nnlib.modes import evaluating

HEADS = ("joint", "rows", "pairs")


@dataclass(frozen=True)
class Certificate:
    """Certified radii of points, and what they rest on.

    Args:
        radius: Shape (n); no perturbation of a smaller p-norm changes the prediction. 0 where it is wrong already.
        correct: Shape (n), whether the prediction is right.
        constant: The Lipschitz constant they rest on.
        residual: The largest of the layers' residuals.
        p: Norm of the perturbations.
    """

    radius: Tensor
    correct: Tensor
    constant: float
    residual: float
    p: float

    def accuracy(self, epsilon: float = 0.0) -> float:
        """Share of points that are right and certified against perturbations of norm up to ``epsilon``."""
        return (self.correct & (self.radius > epsilon)).double().mean().item() if epsilon else self.clean

    @property
    def clean(self) -> float:
        """Share of points that are right."""
        return self.correct.double().mean().item()


def certified_radius(
    logits: Tensor, y: Tensor, constant: float, *, q: float = 2, rounding: Tensor | float = 0.0
) -> Tensor:
    """The radius that the margin allows.

        radius = max(0, z_y - max_{j != y} z_j - 2 c rounding) / (c K),    c = 2^(1 - 1/q),

    where c is the norm dual to q of e_y - e_j: sqrt(2) for logits that are jointly K-Lipschitz in the 2-norm, 2 where
    each logit is K-Lipschitz by itself (q = inf), 1 for q = 1. For a single logit, whose sign is the class, |z| / K.

    Args:
        logits: Shape (n, classes), or (n, 1) with classes 0 (negative) and 1.
        y: Labels, shape (n).
        constant: K, from the norm of the perturbation to the norm q of the logits, > 0 and finite.
        q: 1, 2 or inf.
        rounding: Largest q-norm of the logits' rounding errors, shape (n) or one number.

    Returns:
        Shape (n), 0 where the prediction is wrong. The certificate holds for perturbations strictly below it.

    Raises:
        ValueError: a constant or logits that are not finite, another q, or labels that are no classes.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> logits, y = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0])
    >>> [round(certified_radius(logits, y, 1.0, q=q).item(), 3) for q in (1, 2, math.inf)]
    [2.0, 1.414, 1.0]
    """
    if not (0 < constant < math.inf):
        raise ValueError(f"constant must be positive and finite: got {constant}")
    if q not in DUAL:
        raise ValueError(f"q must be 1, 2 or inf: got {q}")
    if not logits.isfinite().all():
        raise ValueError("logits must be finite")
    y = check_labels(logits, y)
    if logits.shape[1] == 1:
        margin, factor = torch.where(y == 1, logits[:, 0], -logits[:, 0]), 1.0
    else:
        margin, factor = margins(logits, y).amin(1), 2 ** (1 - 1 / q)
    return (margin.double() - 2 * factor * rounding).clamp(min=0) / (factor * constant)


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """z_y - z_j for every class j, infinite at j = y: (n, classes) -> (n, classes).

    >>> margins(torch.tensor([[3.0, 1.0]]), torch.tensor([0])).tolist()
    [[inf, 2.0]]
    """
    difference = logits.gather(1, y[:, None]) - logits
    return difference.scatter(1, y[:, None], math.inf)


def check_labels(logits: Tensor, y: Tensor) -> Tensor:
    """Labels as whole numbers, where they are classes of these logits: (n), from 0 to classes - 1, or 1 of one logit.

    >>> check_labels(torch.zeros(2, 3), torch.tensor([2, 0])).tolist()
    [2, 0]
    """
    if logits.ndim != 2 or len(logits) == 0:
        raise ValueError(f"logits must have shape (n, classes), n at least 1: got {tuple(logits.shape)}")
    classes = max(2, logits.shape[1])
    if y.shape != logits.shape[:1] or y.is_floating_point() or not ((y >= 0) & (y < classes)).all():
        raise ValueError(
            f"y must hold {len(logits)} whole numbers from 0 to {classes - 1}: got {y.dtype} of shape {tuple(y.shape)}"
        )
    return y.long()


def certify(
    model: nn.Module,
    split: tuple[Tensor, Tensor],
    p: float | None = None,
    *,
    head: str = "joint",
    max_residual: float = 1e-3,
) -> Certificate:
    """Certify every point of a split: the constant from what the network computes, the rounding from an analysis of it.

    Scaling of the input counts where it is a part of the model (:class:`Normalize`, :class:`Upsample`). The network is
    certified as it is evaluated, in the precision of its parameters. The worst case of rounding grows with the width:
    at 1,000 features in float32 it takes a percent of the size of the activations off the margins, in float64 nothing
    (``certify(model.double(), ...)``).

    Args:
        model: As for :func:`nnlib.lipschitz.lipschitz_constant`.
        split: Inputs (n, ...) and labels (n), as the splits of a data set are.
        p: Norm of the perturbation; by default the norm that the first layer asks for. A network that is Lipschitz in
            the 2-norm also serves for p = 1, since ‖.‖_2 <= ‖.‖_1.
        head: "joint": the logits are bounded together, in the norm that the last layer names. "rows": each logit by
            itself (the last weight's largest row). "pairs": for each pair of classes the last layer's difference
            w_y - w_j, which is never worse than the other two.
        max_residual: Largest residual of a layer.

    Returns:
        A :class:`Certificate`.

    Raises:
        NotCertifiable: naming the layer whose residual is too large, or whose sums are too long for its precision.
        ValueError: a layer without a bound, a head that the last layer doesn't allow, labels that are no classes, or
            autocast, whose rounding isn't that of the parameters' precision.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import OrthogonalLinear
    >>> model = OrthogonalLinear(2, 2, bias=False, seed=0)
    >>> x = torch.tensor([[1.0, 0.5]])
    >>> certify(model, (x, model(x).argmax(1))).radius.item() > 0
    True
    """
    if head not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}: got {head!r}")
    x, y = split
    if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
        raise ValueError("autocast must be off: a certificate holds for the precision of the parameters")
    if len(x) == 0:
        raise ValueError("the split must hold a point: got none")
    with evaluating(model), torch.no_grad():
        points = x.to(_dtype(model))
        asked = 2 if p == 1 and _starts_with(model, 2) else p
        found = follow(model, asked, x=points, max_residual=max_residual)
        logits = model(points)
        y = check_labels(logits, y)
        constant, q, pairs = found.output.gain, found.norms[1], None
        if head != "joint":
            weight, before, body = _last_weight(found)
            if len(weight) == 1:
                raise ValueError(f"head must be joint for a single logit: got {head!r}")
            pairs = body * vector_norm(weight[:, None] - weight, DUAL[before], dim=2)  # (classes, classes)
            if head == "rows":
                pairs = pairs.new_full(pairs.shape, 2 * body * dense_norm(weight, (before, math.inf)).item())
            # The constant of a difference z_y - z_j counts whole, with the worst pair for the rounding's reach.
            constant, q = pairs.max().item(), 1
        reach = certified_radius(logits, y, constant, q=q)
        unit, entry = unit_roundoff(points), torch.zeros_like(reach)
        if x.is_floating_point() and torch.finfo(x.dtype).eps < torch.finfo(points.dtype).eps:  # points are rounded
            entry = unit * (vector_norm(x.flatten(1).double(), found.norms[0], dim=1) + reach)
        rounding = found.rounding(reach, unit, entry)
        followed = found.output.tensor
        assert followed is not None
        away = vector_norm((logits - followed).double(), found.norms[1], dim=1)
        if not (away <= 2 * rounding).all():
            raise ValueError(f"{type(model).__name__} computes something else than was followed: no bound is known")
        if pairs is None:
            radius = certified_radius(logits, y, constant, q=q, rounding=rounding)
        else:
            slack = (margins(logits, y).double() - 4 * rounding[:, None]).clamp(min=0)
            radius = (slack / pairs[y].clamp(min=torch.finfo(torch.float64).tiny)).amin(1)
    correct = (logits[:, 0] > 0) == (y == 1) if logits.shape[1] == 1 else logits.argmax(1) == y
    residual = max((row.residual for row in found.rows), default=0.0)
    return Certificate(radius, correct, constant, residual, p or found.norms[0])


def _last_weight(found: Followed) -> tuple[Tensor, float, float]:
    """The weight of a dense last layer, the norm of its input, and the constant of all that comes before it."""
    row, before = found.output.made or (None, None)
    weight = getattr(getattr(row, "layer", None), "weight", None)
    if row is None or before is None or not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ValueError(f"this head needs a dense last layer: got {row.kind if row else 'an operation'}")
    a, bias = before.tensor, getattr(row.layer, "bias", None)
    assert a is not None and found.output.tensor is not None
    # A layer with a promise of its own may call something weight that isn't what it multiplies by.
    probe = torch.cat([a[:1] * 0, torch.eye(weight.shape[1], dtype=a.dtype, device=a.device)])
    if a.ndim != 2 or not torch.allclose(row.layer(probe), linear(probe, weight, bias), rtol=1e-4, atol=1e-6):
        raise ValueError(f"this head needs a dense last layer: {row.kind} isn't its weight and bias")
    return weight.detach().double(), before.norm, before.gain


def _starts_with(model: nn.Module, p: float) -> bool:
    """Whether the first layer that asks for a norm asks for this one."""
    asked: list[tuple[float, float] | None] = [getattr(module, "norms", None) for module in model.modules()]
    return next((norms[0] == p for norms in asked if norms), False)


def _dtype(model: nn.Module) -> torch.dtype:
    parameter = next(model.parameters(), None)
    return torch.get_default_dtype() if parameter is None else parameter.dtype
