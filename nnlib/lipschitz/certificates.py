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

from nnlib.lipschitz.norms import DUAL, dense_norm
from nnlib.lipschitz.report import LayerBound, layer_bounds
from nnlib.modes import evaluating

HEADS = ("joint", "rows", "pairs")


class NotCertifiable(ValueError):
    """A layer's weight is too far from its constraint for a certificate to mean anything."""


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
        ValueError: a constant or logits that are not finite, or another q.

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


def certify(
    model: nn.Module,
    split: tuple[Tensor, Tensor],
    p: float | None = None,
    *,
    head: str = "joint",
    max_residual: float = 1e-3,
) -> Certificate:
    """Certify every point of a split: the constant from the layers' bounds, the rounding from a standard analysis.

    Scaling of the input counts where it is a layer of the model (:class:`Normalize`, :class:`Upsample`). The network is
    certified as it is evaluated, in the precision of its parameters. The worst case of rounding grows with the width:
    at 1,000 features in float32 it takes a percent of the size of the activations off the margins, in float64 nothing
    (``certify(model.double(), ...)``).

    Args:
        model: As for :func:`layer_bounds`.
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
        NotCertifiable: naming the layer whose residual is too large.
        ValueError: a layer without a bound, or a head that the last layer doesn't allow.

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
    with evaluating(model), torch.no_grad():
        rows = layer_bounds(model, 2 if p == 1 and _starts_with(model, 2) else p)
        worst = max(rows, key=lambda row: row.residual)
        if not worst.residual <= max_residual:
            raise NotCertifiable(
                f"layer {worst.name} ({type(worst.layer).__name__}) is {worst.residual:.3g} from its constraint, at "
                f"most {max_residual:g} is allowed: take more steps to meet it, or train it on"
            )
        logits = model(x.to(_dtype(model)))
        constant, q = math.prod(row.bound for row in rows), rows[-1].norms[1]
        pairs = None
        if head != "joint":
            weight, before = _last_weight(rows), rows[-1].norms[0]
            body = math.prod(row.bound for row in rows[:-1])
            pairs = body * vector_norm(weight[:, None] - weight, DUAL[before], dim=2)  # (classes, classes)
            if head == "rows":
                pairs = pairs.new_full(pairs.shape, 2 * body * dense_norm(weight, (before, math.inf)).item())
            # The constant of a difference z_y - z_j counts whole, with the worst pair for the rounding's reach.
            constant, q = pairs.max().item(), 1
        reach = certified_radius(logits, y, constant, q=q)
        rounding = rounding_error(rows, x.to(_dtype(model)), reach)
        if pairs is None:
            radius = certified_radius(logits, y, constant, q=q, rounding=rounding)
        else:
            slack = (margins(logits, y).double() - 4 * rounding[:, None]).clamp(min=0)
            radius = (slack / pairs[y].clamp(min=torch.finfo(torch.float64).tiny)).amin(1)
    correct = (logits[:, 0] > 0) == (y == 1) if logits.shape[1] == 1 else logits.argmax(1) == y
    return Certificate(radius, correct, constant, worst.residual, p or rows[0].norms[0])


def rounding_error(rows: list[LayerBound], x: Tensor, reach: Tensor) -> Tensor:
    """A bound on the rounding error of the outputs, for all inputs within ``reach`` of x.

    A sum of n products is off by at most n u / (1 - n u) times the sum of their absolute values (u the unit
    roundoff), so a layer adds n u ‖|W|‖ ‖a‖, and later layers multiply it by their bounds.

    Args:
        rows: From :func:`layer_bounds`.
        x: Inputs, shape (n, ...).
        reach: Shape (n), in the norm of the input.

    Returns:
        Shape (n), in the norm of the output.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.5. Chapter: book/groupsort.ipynb
    """
    unit = torch.finfo(x.dtype).eps / 2
    error, gain, a = torch.zeros_like(reach), 1.0, x
    for row in rows:
        p, q = row.norms
        size = vector_norm(a.flatten(1).double(), p, dim=1) + gain * reach + error
        a = row.layer(a)
        weight = getattr(row.layer, "weight", None)
        bias = getattr(row.layer, "bias", None)
        if weight is None:  # a few operations an entry, of which most layers have none
            fresh = 4 * unit * (row.bound * size + vector_norm(a.flatten(1).double(), q, dim=1))
        else:
            terms = (math.prod(weight.shape[1:]) + 2) * unit
            # A convolution without negative weights is largest at frequency zero.
            absolute = dense_norm(weight.abs() if weight.ndim == 2 else weight.abs().sum((2, 3)), row.norms)
            added = 0.0
            if bias is not None:
                spread = bias.detach().double().view(-1, *[1] * (a.ndim - 2)).expand(a.shape[1:])
                added = vector_norm(spread.flatten(), q)
            fresh = terms / (1 - terms) * (absolute * size + added)
        error = row.bound * error + fresh
        gain *= row.bound
    return error


def _last_weight(rows: list[LayerBound]) -> Tensor:
    weight = getattr(rows[-1].layer, "weight", None)
    if weight is None or weight.ndim != 2:
        raise ValueError(f"this head needs a dense last layer: got {rows[-1].layer}")
    return weight.detach().double()


def _starts_with(model: nn.Module, p: float) -> bool:
    """Whether the first layer that asks for a norm asks for this one."""
    asked: list[tuple[float, float] | None] = [getattr(module, "norms", None) for module in model.modules()]
    return next((norms[0] == p for norms in asked if norms), False)


def _dtype(model: nn.Module) -> torch.dtype:
    parameter = next(model.parameters(), None)
    return torch.get_default_dtype() if parameter is None else parameter.dtype
