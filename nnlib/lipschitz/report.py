"""How steep is a network, at most and at least, and where between input and output is the difference lost?

The bound is carried along the layers, the attained value is a gradient's norm at one point. That gradient passes the
same layers, so that the two can be compared factor by factor. Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from nnlib.arguments import real, seeded, shown, typed, whole
from nnlib.lipschitz.applied import applied
from nnlib.lipschitz.layers import frozen
from nnlib.lipschitz.network import Followed, LayerBound, follow
from nnlib.lipschitz.norms import DUAL
from nnlib.modes import evaluating


@typed
@dataclass(frozen=True)
class LipschitzReport:
    """Bounds from above and from below on a network's Lipschitz constant, layer by layer.

    Args:
        rows: A dict for each layer, and operation of one input, each time that it runs: ``layer, kind, bound, residual,
            attained, lost``. ``attained`` is the factor by which the steepest gradient found changes its norm on its
            way back through the layer, ``lost`` is 1 - attained / bound.
        upper: Proven. For a chain of layers it is the product of the bounds.
        lower: The norm of the Jacobian at ``point``: a bound from below. For a chain it is the product of ``attained``.
        point: Where it is attained, shape of one input.
        norms: (p, q) of input and output.
    """

    rows: list[dict[str, Any]]
    upper: float
    lower: float
    point: Tensor
    norms: tuple[float, float]

    @property
    def gap(self) -> float:
        """upper / lower, at least 1 up to rounding."""
        return self.upper / self.lower if self.lower else math.inf


@typed
def layer_bounds(model: nn.Module, p: float | None = None, *, shape: Sequence[int] | None = None) -> list[LayerBound]:
    """The bounds of a network's layers, and of operations of one input, in the order in which they run.

    A layer that runs twice is there twice. For a chain the product is the network's constant; where branches meet, it
    isn't: see :func:`lipschitz_constant`.

    Args:
        model: As for :func:`lipschitz_constant`.
        p: As for :func:`lipschitz_constant`.
        shape: As for :func:`lipschitz_constant`.

    Raises:
        ValueError: as :func:`lipschitz_constant` does.

    Chapter: book/groupsort.ipynb

    >>> [row.bound for row in layer_bounds(nn.Sequential(nn.Flatten(), nn.ReLU()))]
    [1.0, 1.0]
    """
    return follow(model, p, x=_example(model, shape)).rows


@typed
def lipschitz_constant(model: nn.Module, p: float | None = None, *, shape: Sequence[int] | None = None) -> float:
    """A proven Lipschitz constant of a network in evaluation mode: what it computes is followed (:func:`follow`).

    Factors multiply along chains, sums of branches add up, branches side by side count as the root of the sum of
    squares, and a layer counts as often as it runs. The constant is that of the network in exact arithmetic, with the
    weights as they are.

    Args:
        model: Maps (n, ...) to (n, ...), each row by itself: layers with a bound (:func:`layer_bound`), however they
            are called, sums, differences, concatenations, maxima, scalings, slices and reshapings of what they give.
        p: The norm of the input; by default the one that the first layer with a norm asks for, else 2.
        shape: Of one input, (c, H, W) say. Needed where a network could broadcast or asks for a shape, and sharper for
            circular convolutions, whose norm depends on it. Without it the constant holds for all shapes.

    Raises:
        ValueError: naming the layer or operation that has no bound, whose norm is not what the one before it gives, or
            that needs a shape; another norm, a shape with a number that isn't whole and at least 1.

    Chapter: book/groupsort.ipynb

    >>> round(lipschitz_constant(nn.Sequential(nn.Linear(1, 1), nn.ReLU()).requires_grad_(False).apply(
    ...     lambda layer: layer.weight.fill_(-2) if hasattr(layer, "weight") else None)), 6)
    2.0
    """
    return follow(model, p, x=_example(model, shape)).output.gain


def _example(model: nn.Module, shape: Sequence[int] | None) -> Tensor | None:
    if shape is None:
        return None
    for n in shape:
        whole(1, shape=n)
    parameter = next(model.parameters(), None)
    zeros = torch.zeros(2, *shape, device="cpu" if parameter is None else parameter.device)
    return zeros if parameter is None else zeros.to(parameter)


@typed
@torch.enable_grad()
def lipschitz_report(
    model: nn.Module,
    data: Tensor | tuple[Tensor, Tensor],
    p: float | None = None,
    *,
    points: int = 64,
    steps: int = 50,
    seed: int = 0,
) -> LipschitzReport:
    """For each layer the proven bound, the attained value, and what is lost between them.

    From above: :func:`lipschitz_constant` at the shape of the data. From below: pairs of points, started at data, climb
    the slope ‖f(x) - f(x')‖_q / ‖x - x'‖_p; then the Jacobian is computed at all points met, and the largest norm
    counts. (The slope of a piecewise linear network has no gradient at a point, between two points it has.)

    Args:
        model: As for :func:`lipschitz_constant`; measured in evaluation mode.
        data: Inputs to start from, shape (n, ...), finite, or a split of a data set.
        p: Norm of the input, as for :func:`lipschitz_constant`.
        points: How many of them to use, at least 1, drawn with ``seed``.
        steps: Of the ascent; 0 for none.
        seed: Of the draws.

    Returns:
        A :class:`LipschitzReport`.

    Raises:
        TypeError: data that are no tensor of floating-point numbers.
        ValueError: naming a layer without a bound; another norm, data that are not finite, or numbers out of range.

    Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import MaxMin, OrthogonalLinear
    >>> model = nn.Sequential(OrthogonalLinear(3, 8, seed=0), MaxMin(), OrthogonalLinear(8, 3, seed=1))
    >>> report = lipschitz_report(model, torch.eye(3))
    >>> abs(report.upper - 1) < 1e-5, report.lower <= report.upper + 1e-5
    (True, True)
    """
    if not isinstance(data, Tensor) and len(data) != 2:
        raise ValueError(f"data must be inputs, or inputs and labels: got {shown(data)}")
    x = data if isinstance(data, Tensor) else data[0]
    real("n inputs ...", data=x)
    whole(1, points=points)
    whole(0, steps=steps)
    generator = seeded(seed)
    x = x[torch.randperm(len(x), generator=generator, device="cpu")[:points].to(x.device)].detach()
    parameter = next(model.parameters(), None)
    x = x if parameter is None else x.to(parameter)
    with evaluating(model), frozen(model):
        applied(model, data=x.clone())
        norms = follow(model, p, x=x[:1]).norms
        met = torch.cat([x, _climb(model, x, norms, steps, generator)])
        jacobian = torch.cat([jacobians(model, part) for part in met.split(64)])
        sizes = _operator_norms(jacobian, norms)
        best = int(sizes.argmax())
        found = follow(model, p, x=met[best : best + 1].clone().requires_grad_())
        gains = _path(found, _dual_vector(jacobian[best], norms))
    told = [
        {
            "layer": row.name,
            "kind": row.kind,
            "bound": row.bound,
            "residual": row.residual,
            "attained": gain,
            "lost": max(0.0, 1 - gain / row.bound) if row.bound else 0.0,
        }
        for row, gain in zip(found.rows, gains, strict=True)
    ]
    return LipschitzReport(told, found.output.gain, sizes[best].item(), met[best], norms)


@typed
@torch.enable_grad()
def jacobians(model: nn.Module, x: Tensor) -> Tensor:
    """Derivatives of all outputs with respect to all inputs.

    Args:
        model: Maps (n, ...) to (n, outputs), each row by itself.
        x: Shape (n, ...), finite.

    Returns:
        Shape (n, outputs, inputs), inputs flattened.

    Raises:
        TypeError: an x that is no tensor of floating-point numbers.
        ValueError: an x that is not finite or not what the model takes, or a model that can't be differentiated.

    Chapter: book/groupsort.ipynb

    >>> jacobians(nn.ReLU(), torch.tensor([[1.0, -1.0]])).tolist()
    [[[1.0, 0.0], [0.0, 0.0]]]
    """
    real("n inputs ...", x=x)
    x = x.detach().requires_grad_()
    with frozen(model):
        out = applied(model, x=x)
        if not out.requires_grad:
            raise ValueError(f"model must have a derivative by x: {type(model).__name__} gives an output without")
        out = out.reshape(len(x), -1)  # (n, outputs)
        sums = out.sum(0)
        rows = [torch.autograd.grad(total, x, retain_graph=True)[0] for total in sums]
    return torch.stack([row.flatten(1) for row in rows], 1)


def _climb(model: nn.Module, x: Tensor, norms: tuple[float, float], steps: int, generator: torch.Generator) -> Tensor:
    """Points met by pairs that climb the slope between them: both ends, and points on the way from one to the other."""
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x)
    spread = (x - x.mean(0)).square().mean().sqrt().item() or 1.0  # of the data; 1 where they are all the same
    pair = torch.stack([x, x + spread * noise])  # (2, n, ...)
    for step in range(steps):
        pair = pair.detach().requires_grad_()
        values = model(pair.flatten(0, 1)).unflatten(0, (2, -1))
        rise = vector_norm((values[0] - values[1]).flatten(1), norms[1], dim=1)
        run = vector_norm((pair[0] - pair[1]).flatten(1), norms[0], dim=1)
        tiny = torch.finfo(x.dtype).tiny
        (slope,) = torch.autograd.grad((rise.clamp(min=tiny).log() - run.clamp(min=tiny).log()).sum(), pair)
        length = vector_norm(slope.flatten(2), dim=2).clamp(min=tiny).view(2, -1, *[1] * (x.ndim - 1))
        width = run.detach().view(1, -1, *[1] * (x.ndim - 1))
        pair = pair + 0.5 * (1 - step / steps) * width * slope / length
    first, second = pair.detach()
    return torch.cat([first + t * (second - first) for t in (0.0, 0.25, 0.5, 0.75, 1.0)])


def _operator_norms(jacobian: Tensor, norms: tuple[float, float]) -> Tensor:
    """max ‖J v‖_q over ‖v‖_p <= 1, (n, outputs, inputs) -> (n)."""
    p, q = norms
    if jacobian.shape[1] == 1:  # one output: every q-norm is the absolute value
        return vector_norm(jacobian[:, 0], DUAL[p], dim=1)
    if norms == (2, 2):
        return torch.linalg.matrix_norm(jacobian, 2)
    if q == math.inf:
        return vector_norm(jacobian, DUAL[p], dim=2).amax(1)
    return vector_norm(jacobian, q, dim=1).amax(1)  # p = 1


def _dual_vector(jacobian: Tensor, norms: tuple[float, float]) -> Tensor:
    """u with ‖u‖_(dual of q) = 1 and ‖Jᵀ u‖_(dual of p) = ‖J‖, for J of shape (outputs, inputs)."""
    p, q = norms
    if norms == (2, 2):
        return torch.linalg.svd(jacobian, full_matrices=False).U[:, 0]
    if q == math.inf or len(jacobian) == 1:
        row = int(vector_norm(jacobian, DUAL[p], dim=1).argmax())
        return nn.functional.one_hot(torch.tensor(row, device=jacobian.device), len(jacobian)).to(jacobian)
    column = jacobian[:, int(vector_norm(jacobian, q, dim=0).argmax())]  # p = 1
    return column.sign() if q == 1 else column / vector_norm(column)


def _path(found: Followed, u: Tensor) -> list[float]:
    """By how much each layer changes the norm of the gradient of u . f on its way back through it."""
    output = found.output.tensor
    assert output is not None
    passed = [row.passed for row in found.rows if row.passed is not None]
    after = torch.autograd.grad(
        (output.flatten() * u).sum(), [out for _, out in passed], retain_graph=True, allow_unused=True
    )
    gains = []
    for row, (x, out), gradient in zip(found.rows, passed, after, strict=True):
        size = 0.0 if gradient is None else vector_norm(gradient.flatten(), DUAL[row.norms[1]]).item()
        if not size:
            gains.append(0.0)
            continue
        (back,) = torch.autograd.grad(out, x, gradient, retain_graph=True)
        gains.append(vector_norm(back.flatten(), DUAL[row.norms[0]]).item() / size)
    return gains
