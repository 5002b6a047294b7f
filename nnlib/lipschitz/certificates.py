"""Within which distance can no perturbation change the predicted class? Margins over Lipschitz constants.

A certificate is only as good as its constant: the bound is measured on the weights in use, what rounding may do is
taken off the margin, and a layer too far from its constraint is refused.

Paper: arXiv 1811.05381, section 5; Tsuzuku et al., arXiv 1802.04034. Chapter: book/groupsort.ipynb.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import linear

from nnlib.arguments import labels, one_of, real, shown, typed, within
from nnlib.lipschitz.network import Followed, follow
from nnlib.lipschitz.norms import DUAL, dense_norm, known_norm
from nnlib.lipschitz.rounding import unit_roundoff
from nnlib.modes import evaluating

HEADS = ("joint", "rows", "pairs")


@typed
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

    @typed
    def accuracy(self, epsilon: float = 0.0) -> float:
        """Share of points that are right and certified against perturbations of norm up to ``epsilon`` >= 0."""
        within("[0, inf)", epsilon=epsilon)
        return (self.correct & (self.radius > epsilon)).double().mean().item() if epsilon else self.clean

    @property
    def clean(self) -> float:
        """Share of points that are right."""
        return self.correct.double().mean().item()


@typed
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
        rounding: Largest q-norm of the logits' rounding errors, shape (n) or one number, >= 0.

    Returns:
        Shape (n), 0 where the prediction is wrong. The certificate holds for perturbations strictly below it.

    Raises:
        TypeError: logits that are no tensor of floating-point numbers, labels that are none of whole ones.
        ValueError: a constant or logits that are not finite, another q, labels that are no classes, or a rounding error
            below 0, NaN or of another shape.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> logits, y = torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([0])
    >>> [round(certified_radius(logits, y, 1.0, q=q).item(), 3) for q in (1, 2, math.inf)]
    [2.0, 1.414, 1.0]
    """
    within("(0, inf)", constant=constant)
    known_norm(q=q)
    n = real("n classes", logits=logits)["n"]
    y = check_labels(y, logits=logits)
    lost = torch.as_tensor(rounding, device=logits.device)
    if lost.shape not in ((), (n,)) or not (lost >= 0).all():
        raise ValueError(f"rounding must be one number of at least 0, or {n}, one a point: got {shown(rounding)}")
    if logits.shape[1] == 1:
        margin, factor = torch.where(y == 1, logits[:, 0], -logits[:, 0]), 1.0
    else:
        margin, factor = differences(logits, y).amin(1), 2 ** (1 - 1 / q)
    return (margin.double() - 2 * factor * rounding).clamp(min=0) / (factor * constant)


@typed
def margins(logits: Tensor, y: Tensor) -> Tensor:
    """z_y - z_j for every class j, infinite at j = y.

    Args:
        logits: Shape (n, classes), at least two classes.
        y: Labels, shape (n).

    Returns:
        Shape (n, classes).

    Raises:
        TypeError: logits that are no tensor of floating-point numbers, labels that are none of whole ones.
        ValueError: logits that are not finite, a single one, or labels that are no classes.

    Chapter: book/groupsort.ipynb

    >>> margins(torch.tensor([[3.0, 1.0]]), torch.tensor([0])).tolist()
    [[inf, 2.0]]
    """
    if real("n classes", logits=logits)["classes"] < 2:
        raise ValueError(f"logits must be of at least two classes: got shape {tuple(logits.shape)}")
    return differences(logits, check_labels(y, logits=logits))


def differences(logits: Tensor, y: Tensor) -> Tensor:
    """As :func:`margins`, of labels that were looked at: for every step of an attack.

    >>> differences(torch.tensor([[3.0, 1.0]]), torch.tensor([1])).tolist()
    [[-2.0, inf]]
    """
    difference = logits.gather(1, y[:, None]) - logits
    return difference.scatter(1, y[:, None], math.inf)


def check_labels(y: Tensor, **named: Any) -> Tensor:
    """Labels as whole numbers, where they are classes of these logits: (n), from 0 to classes - 1, or 1 of one logit.

    >>> check_labels(torch.tensor([2, 0]), logits=torch.zeros(2, 3)).tolist()
    [2, 0]
    """
    sizes, (name,) = real("n classes", finite=False, **named), named
    if isinstance(y, Tensor) and y.shape != (sizes["n"],):
        raise ValueError(f"y must hold a label for each row of {name}, {sizes['n']}: got shape {tuple(y.shape)}")
    labels(max(2, sizes["classes"]), "n", y=y)
    return y.long()


def check_split(split: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Inputs and labels, where they are so: inputs (n, ...) of finite numbers, which may be whole (as pixels are).

    >>> check_split((torch.zeros(2, 3), torch.zeros(1)))
    Traceback (most recent call last):
    ValueError: split must hold as many labels as inputs, 2: got shape (1,)
    """
    if len(split) != 2 or not all(isinstance(part, Tensor) for part in split):
        raise ValueError(f"split must be two tensors, inputs and labels: got {shown(split)}")
    x, y = split
    whole_numbers = not (x.is_floating_point() or x.is_complex())
    inputs: Any = {"inputs of split": x.double() if whole_numbers else x}
    n = real("n inputs ...", **inputs)["n"]
    if y.shape != (n,):
        raise ValueError(f"split must hold as many labels as inputs, {n}: got shape {tuple(y.shape)}")
    return x, y


@typed
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
        TypeError: inputs or labels of another dtype.
        ValueError: a layer without a bound, a head that the last layer doesn't allow, inputs that are not finite,
            labels that are no classes, or autocast, whose rounding isn't that of the parameters' precision.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import OrthogonalLinear
    >>> model = OrthogonalLinear(2, 2, bias=False, seed=0)
    >>> x = torch.tensor([[1.0, 0.5]])
    >>> certify(model, (x, model(x).argmax(1))).radius.item() > 0
    True
    """
    one_of(HEADS, head=head)
    x, y = check_split(split)
    if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
        raise ValueError("autocast must be off: a certificate holds for the precision of the parameters")
    with evaluating(model), torch.no_grad():
        points = x.to(_dtype(model))
        asked = 2 if p == 1 and _starts_with(model, 2) else p
        found = follow(model, asked, x=points, max_residual=max_residual)
        logits = model(points)
        y = check_labels(y, **{"model(x)": logits})
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
            slack = (differences(logits, y).double() - 4 * rounding[:, None]).clamp(min=0)
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
