"""What does an operation between layers cost? Its factor on every input, or a refusal by name.

Each entry of ``OPERATIONS`` takes the arguments of a call of torch, with :class:`Value` for what depends on the
network's input, and answers with a :class:`Step`. An argument that it doesn't know is an error, not a guess.
Chapter: book/groupsort.ipynb.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nnlib.lipschitz.bounds import conv2d_bound
from nnlib.lipschitz.norms import dense_norm, with_rounding


@dataclass(eq=False)
class Memory:
    """Where numbers lie; views share it. ``written`` counts how often it was written to in place."""

    written: int = 0


@dataclass(eq=False)
class Value:
    """What is known of a tensor inside a network, as a function of the network's input.

    Args:
        tensor: Its value at the points, shape (n, ...); None where the input's shape isn't known.
        gain: From the input's norm to ``norm`` of this tensor.
        norm: 1, 2 or inf.
        error: Largest rounding error, in that norm, at each point, shape (n); None without a tensor.
        memory: Where it lies, and ``written`` as it was when this value was made.
        made: The layer that it comes from and that layer's input, if it comes from one.
    """

    tensor: Tensor | None
    gain: float
    norm: float
    error: Tensor | None
    memory: Memory
    written: int
    made: tuple[Any, "Value"] | None = None


@dataclass(frozen=True)
class Step:
    """What an operation does to bounds: gain = ‖(factor_i gain_i)_i‖, in the 1-norm for sums, else in the values' norm.

    Args:
        inputs: What it takes.
        factors: For each.
        sums: Whether inputs are added, or else put side by side (or the larger taken, entry by entry).
        kept: Whether the result must have the shape of the inputs: repeating a value would lengthen it.
        view: Whether the result may lie where the first input lies.
        products: For linear maps: products in a sum, norm of the absolute weight, and the bias.
    """

    inputs: Sequence[Value]
    factors: Sequence[float]
    sums: bool = True
    kept: bool = False
    view: bool = False
    products: tuple[int, float, Tensor | None] | None = None


class Batch:
    """The number of points, which a shape may hold but nothing may compute with."""


BATCH = Batch()
PointFree = float | Tensor  # what doesn't depend on the input


def _entrywise(factor: float = 1.0) -> Callable[..., Step]:
    return lambda x, *, inplace=False: _one(x, factor, view=False)


def _one(x: Any, factor: float = 1.0, **more: Any) -> Step:
    if not isinstance(x, Value):
        raise TypeError("the input of this operation can't be followed")
    return Step([x], [factor], **more)


def _leaky_relu(x: Value, negative_slope: float = 0.01, *, inplace: bool = False) -> Step:
    return _one(x, max(1.0, abs(negative_slope)))


def _dropout(x: Value, p: float = 0.5, training: bool = True, *, inplace: bool = False) -> Step:
    if training:
        raise TypeError("dropout in training mode draws")
    return _one(x, view=True)


def _add(x: Value | PointFree, y: Value | PointFree, *, alpha: float = 1) -> Step:
    both = [(value, size) for value, size in ((x, 1.0), (y, abs(float(alpha)))) if isinstance(value, Value)]
    if not math.isfinite(alpha):
        raise TypeError(f"alpha is {alpha}")
    return Step([value for value, _ in both], [size for _, size in both], kept=_shaped(x, y))


def _mul(x: Value | PointFree, y: Value | PointFree) -> Step:
    if isinstance(x, Value) and isinstance(y, Value):
        raise TypeError("a product of two values has no bound that holds for all inputs")
    value, constant = (x, y) if isinstance(x, Value) else (y, x)
    return _one(value, _size(constant, max), kept=_shaped(constant))


def _div(x: Value, y: PointFree) -> Step:
    if isinstance(y, Value):
        raise TypeError("a quotient has no bound that holds for all inputs")
    smallest = _size(y, min)
    if smallest == 0:
        raise TypeError("division by 0")
    return _one(x, 1 / smallest, kept=_shaped(y))


def _extremum(x: Value | Tensor, y: Value | Tensor) -> Step:
    """The larger or smaller of two moves by no more than the one that moves more."""
    values = [value for value in (x, y) if isinstance(value, Value)]
    return Step(values, [1.0] * len(values), sums=False, kept=True)


def _cat(tensors: Sequence[Value | Tensor], dim: int = 0) -> Step:
    values = [value for value in tensors if isinstance(value, Value)]
    not_the_batch(dim, *values)
    return Step(values, [1.0] * len(values), sums=False)


def _stack(tensors: Sequence[Value | Tensor], dim: int = 0) -> Step:
    return _cat(tensors, dim if dim >= 0 else dim + 1 or 1)  # there is one axis more to count from the end; -1 is last


def _unsqueeze(x: Value, dim: int) -> Step:
    not_the_batch(dim if dim >= 0 else dim + 1 or 1, x)  # -1 puts the new axis last
    return _one(x, view=True)


def _linear(x: Value, weight: Tensor, bias: Tensor | None = None) -> Step:
    if isinstance(weight, Value) or isinstance(bias, Value) or weight.ndim != 2:
        raise TypeError("weights must be a matrix that doesn't depend on the input")
    _axes(x, 2)
    norms = (x.norm, x.norm)
    factor = with_rounding(dense_norm(weight, norms), weight)
    return _one(x, factor, products=(weight.shape[1], dense_norm(weight.detach().abs(), norms).item(), bias))


def _matmul(x: Value, y: Tensor) -> Step:
    if not isinstance(x, Value) or isinstance(y, Value):
        raise TypeError("only a product with a matrix on the right acts on each point by itself")
    return _linear(x, y.mT)


def _conv2d(
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Step:
    if x.norm != 2 or isinstance(weight, Value) or isinstance(bias, Value) or weight.ndim != 4:
        raise TypeError("a convolution is bounded from the 2-norm, with a kernel that doesn't depend on the input")
    _axes(x, 4)
    stride, dilation = ([n, n] if isinstance(n, int) else list(n) for n in (stride, dilation))
    factor = conv2d_bound(weight, stride, dilation, groups)
    products = (math.prod(weight.shape[1:]), absolute_conv(weight, groups), bias)
    return _one(x, factor, products=products)


def absolute_conv(weight: Tensor, groups: int = 1) -> float:
    """The norm of a convolution with the absolute weights: without negative ones it is largest at frequency zero.

    >>> absolute_conv(torch.tensor([[[[1.0, -2.0]]]]))
    3.0
    """
    return max(dense_norm(part.abs().sum((2, 3))).item() for part in weight.detach().chunk(groups))


def _pad(x: Value, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Step:
    if mode != "constant" or x.tensor is None or len(pad) // 2 >= x.tensor.ndim:
        raise TypeError("only padding with a constant, of inputs of known shape, is bounded")
    return _one(x, view=True)


def _flatten(x: Value, start_dim: int = 0, end_dim: int = -1) -> Step:
    not_the_batch(start_dim, x)
    return _one(x, view=True)


def _view(x: Value, *shape: Any) -> Step:
    sizes = list(shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape)
    if x.tensor is None or not (sizes and (sizes[0] is BATCH or sizes[0] == -1)):
        raise TypeError("a shape must begin with the number of points, x.shape[0] or -1, of inputs of known shape")
    return _one(x, view=True)


def _dims(x: Value, *dims: Any) -> Step:
    """Axes moved or left out, none of which is that of the points."""
    if not dims or x.tensor is None:
        raise TypeError("axes must be named, of inputs of known shape")
    not_the_batch(*dims, x)
    return _one(x, view=True)


def _permute(x: Value, *dims: Any) -> Step:
    axes = list(dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims)
    if not axes or axes[0] != 0 or x.tensor is None:
        raise TypeError("points must stay along axis 0, of inputs of known shape")
    return _one(x, view=True)


def _pieces(x: Value, size: Any = 0, dim: int = 0) -> Step:
    if x.tensor is None:
        raise TypeError("the input's shape must be known, to see how many pieces there are")
    not_the_batch(dim, x)
    return _one(x, view=True)


def _unbind(x: Value, dim: int = 0) -> Step:
    return _dims(x, dim)


def _getitem(x: Value, index: Any) -> Step:
    index = index if isinstance(index, tuple) else (index,)
    simple = all(isinstance(item, int | slice) and not isinstance(item, bool) for item in index)
    if index[0] is Ellipsis and x.tensor is not None and len(index) <= x.tensor.ndim:
        index = (slice(None), *index[1:])
        simple = all(isinstance(item, int | slice) and not isinstance(item, bool) for item in index)
    if not simple or index[0] != slice(None) or x.tensor is None:
        raise TypeError(
            "only slices and numbers after [:, may pick, of a known shape: others could pick an entry twice"
        )
    return _one(x, view=True)


def _same(x: Value) -> Step:
    return _one(x, view=True)


def _clamp(x: Value, min: PointFree | None = None, max: PointFree | None = None) -> Step:
    if isinstance(min, Value) or isinstance(max, Value):
        raise TypeError("limits must not depend on the input")
    return _one(x, kept=_shaped(min, max))


OPERATIONS: dict[Any, Callable[..., Step]] = {}
for _step, _names in (
    (_entrywise(), (F.relu, torch.relu, "relu", F.tanh, torch.tanh, "tanh", torch.abs, "abs", operator.neg, torch.neg)),
    (_entrywise(), ("neg", abs, torch.sin, torch.cos, "sin", "cos")),
    (_entrywise(0.25), (F.sigmoid, torch.sigmoid, "sigmoid")),
    (_leaky_relu, (F.leaky_relu,)),
    (_clamp, (torch.clamp, "clamp")),
    (_dropout, (F.dropout,)),
    (_add, (operator.add, torch.add, "add", operator.sub, torch.sub, "sub")),
    (_mul, (operator.mul, torch.mul, torch.multiply, "mul")),
    (_div, (operator.truediv, torch.div, torch.true_divide, "div")),
    (_extremum, (torch.maximum, torch.minimum, "maximum", "minimum")),
    (_cat, (torch.cat, torch.concat, torch.concatenate)),
    (_stack, (torch.stack,)),
    (_unsqueeze, ("unsqueeze", torch.unsqueeze)),
    (_linear, (F.linear,)),
    (_matmul, (operator.matmul, torch.matmul, "matmul")),
    (_conv2d, (F.conv2d, torch.conv2d)),
    (_pad, (F.pad,)),
    (lambda x, factor: _one(x, view=True), (F.pixel_unshuffle, F.pixel_shuffle)),
    (_flatten, (torch.flatten, "flatten")),
    (_view, ("view", "reshape", torch.reshape)),
    (lambda x, dim, sizes: _dims(x, dim), ("unflatten", torch.unflatten)),
    (_dims, ("transpose", torch.transpose, "squeeze", torch.squeeze)),
    (_permute, ("permute", torch.permute)),
    (_pieces, ("chunk", torch.chunk, "split", torch.split)),
    (_unbind, ("unbind", torch.unbind)),
    (_getitem, (operator.getitem,)),
    (_same, ("contiguous", "clone", "detach")),
):
    OPERATIONS |= dict.fromkeys(_names, _step)

IN_PLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    torch.relu_: torch.relu,
    F.relu_: F.relu,
    F.leaky_relu_: F.leaky_relu,
    torch.tanh_: torch.tanh,
    torch.sigmoid_: torch.sigmoid,
} | {f"{name}_": name for name in ("add", "sub", "mul", "div", "relu", "tanh", "sigmoid", "abs", "neg", "clamp")}


def not_the_batch(*dims: Any) -> None:
    """Refuse the axis of the points; the values among the arguments say how many axes there are.

    >>> not_the_batch(0)
    Traceback (most recent call last):
    TypeError: points lie along axis 0, and must stay apart: got dim=0
    """
    axes = [value.tensor.ndim for value in dims if isinstance(value, Value) and value.tensor is not None]
    for dim in dims:
        if isinstance(dim, Value):
            continue
        known = isinstance(dim, int) and (dim > 0 or (dim < 0 and axes and dim % min(axes) > 0))
        if not known:
            raise TypeError(f"points lie along axis 0, and must stay apart: got dim={dim}")


def _axes(x: Value, least: int) -> None:
    if x.tensor is not None and x.tensor.ndim < least:
        raise TypeError(f"points lie along axis 0 of {least} axes: got shape {tuple(x.tensor.shape)}")


def _shaped(*operands: Any) -> bool:
    """Whether broadcasting may lengthen a value: not by a number."""
    values = sum(isinstance(operand, Value) for operand in operands)
    return values == 2 or any(isinstance(operand, Tensor) and operand.ndim > 0 for operand in operands)


def _size(constant: Any, extremum: Callable[[list[float]], float]) -> float:
    if isinstance(constant, Tensor):
        sizes = constant.detach().double().abs()
        constant = (sizes.amax() if extremum is max else sizes.amin()).item()
    if not isinstance(constant, int | float) or not math.isfinite(constant):
        raise TypeError(f"a factor must be a finite number: got {constant}")
    return abs(constant)
