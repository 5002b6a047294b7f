"""What does an operation of torch do to channels? Dimension 1 of a tensor of examples, (B, C, ...), is followed.

Only what is known to work on each channel alone is followed; everything else is refused by name.
Chapter: ``book/eigendamage.ipynb``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from nnlib.eigendamage.trace import Constant, Node, Value

# By name, as functions and methods, in place or not. f(0) = 0 holds for the first, so that they keep zeros.
KEEP_ZERO = set(
    "relu relu6 leaky_relu elu gelu silu mish tanh hardswish max_pool2d avg_pool2d adaptive_avg_pool2d "
    "adaptive_max_pool2d interpolate upsample dropout dropout2d feature_dropout neg abs clone contiguous detach to "
    "float double half bfloat16 type type_as view_as Identity Dropout Dropout2d Upsample ReLU ReLU6 LeakyReLU ELU GELU "
    "SiLU Mish Hardswish Tanh MaxPool2d AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d alias data".split()
)
OTHERS = set("sigmoid hardsigmoid softplus hardtanh Sigmoid Hardsigmoid Softplus Hardtanh".split())
OVER_POSITIONS = {"mean", "sum", "amax", "amin", "squeeze"}
SUMS = {"add", "__radd__", "sub", "__rsub__"}
PRODUCTS = {"mul", "__rmul__", "div"}
JOINS = {"cat", "concat", "concatenate"}


@dataclass(frozen=True)
class Rule:
    """How the channels of ``out`` come from those of ``ins``.

    Args:
        kind: ``same``; ``spread``, each channel becomes ``times`` of them; ``cat``; ``sum``, which has the channels of
            any operand; ``product``, of all. The operands of the last two must have the same channels in memory.
        out: What is made.
        ins: Of what.
        zero: Whether channels that are zero stay zero.
        times: See above.
        name: Of the operation.
    """

    kind: str
    out: Value
    ins: tuple[Value | Constant, ...]
    zero: bool = True
    times: int = 1
    name: str = ""


def rule(node: Node, removed: Sequence[Value]) -> Rule:
    """The rule of a function, or of a layer without weights, that reads values with removed channels.

    Raises:
        ValueError: naming the operation, where its channels can't be followed.
    """
    name = node.name if node.name.endswith("__") else node.name.removesuffix("_")
    args = [*node.args, *(node.kwargs[key] for key in ("input", "other") if key in node.kwargs)]
    if len(node.out) != 1:
        raise refused(node)
    out = node.out[0]
    if name in JOINS:
        return _joined(node, args[0] if args else node.kwargs.get("tensors"), out, name)
    if any(out.shape[:1] != value.shape[:1] for value in removed):
        raise refused(node)
    operand = args[0] if args else None
    if name in SUMS | PRODUCTS and "out" not in node.kwargs:
        return _both(node, args, out, removed, name)
    if list(removed) != [operand] or not isinstance(operand, Value) or len(node.tensors()) > 1:
        raise refused(node)
    if name in KEEP_ZERO | OTHERS and len(out.shape) >= 2 and out.shape[1] == operand.shape[1]:
        return Rule("same", out, (operand,), name in KEEP_ZERO, name=name)
    if name in ("flatten", "Flatten", "view", "reshape"):
        return _flattened(node, args, operand, out, name)
    if name in OVER_POSITIONS:
        dims = node.kwargs.get("dim", args[1:] if name == "squeeze" else args[1] if len(args) > 1 else ())
        dims = tree_leaves(dims)
        if dims and all(isinstance(d, int) and d % len(operand.shape) >= 2 for d in dims):
            return Rule("same", out, (operand,), name=name)
        raise refused(node, f"only a {name} over positions leaves the channels")
    if name == "unsqueeze" and args[1] % (len(operand.shape) + 1) >= 2:
        return Rule("same", out, (operand,), name=name)
    if name == "__getitem__" and isinstance(args[1], tuple) and all(part == slice(None) for part in args[1][:2]):
        if len(args[1]) >= 2 and not any(part is Ellipsis for part in args[1]) and out.shape[1:2] == operand.shape[1:2]:
            return Rule("same", out, (operand,), name=name)
    if name == "pad" and len(args[1]) <= 2 * (len(operand.shape) - 2):
        if args[3:] in ([], [None], [0]) and not node.kwargs.get("value"):
            return Rule("same", out, (operand,), name=name)
    if name == "pow" and isinstance(args[1], int | float) and args[1] > 0:
        return Rule("same", out, (operand,), name=name)
    if name in ("clamp", "clip", "clamp_min", "clamp_max"):
        given = [*args, None, None]  # clamp_max has its end where the others have their first
        low = node.kwargs.get("min", given[3 if name == "clamp_max" else 1])
        high = node.kwargs.get("max", given[1 if name == "clamp_max" else 2])
        if (low is None or low <= 0) and (high is None or high >= 0):
            return Rule("same", out, (operand,), name=name)
    raise refused(node)


def _joined(node: Node, parts: Any, out: Value, name: str) -> Rule:
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    if dim not in (1, 1 - len(out.shape)):
        raise refused(node, "only channels, dimension 1, may be concatenated")
    return Rule("cat", out, tuple(parts), name=name)


def _both(node: Node, args: list, out: Value, removed: Sequence[Value], name: str) -> Rule:
    """A sum or a product of two operands."""
    if len(args) != 2:
        raise refused(node)
    tensors = [arg for arg in args if isinstance(arg, Value | Constant)]
    shapes = [arg.shape for arg in tensors]
    divided = name == "div" and args[1] in removed
    if name in SUMS:
        if len(tensors) == 1 and any(arg is not tensors[0] and arg == 0 for arg in args):
            return Rule("same", out, (removed[0],), name=name)  # the start of sum([...])
        if len(tensors) == 1:
            raise refused(node, "it makes other numbers of channels that are zero")
        if len(tensors) == 2 and shapes[0] == shapes[1]:
            return Rule("sum", out, tuple(tensors), name=name)
        raise refused(node, "only tensors of the same shape may be added")
    value = removed[0]
    others = [arg for arg in args if arg is not value]
    if len(others) != 1 or divided:
        raise refused(node, "it is not known to work on each channel alone: both operands have lost some")
    other = others[0]
    if not isinstance(other, Value | Constant) or other.shape.numel() == 1 or _one_channel(other, value):
        return Rule("same", out, (value,), name=name)
    fits = len(other.shape) == len(value.shape) and other.shape[1] == value.shape[1] == out.shape[1]
    if fits and name != "div" and isinstance(other, Value) and other not in removed:
        return Rule("product", out, (value, other), name=name)
    raise refused(node, "it is not known to work on each channel alone")


def _one_channel(other: Value | Constant, value: Value) -> bool:
    """Whether a factor is the same for all channels."""
    return len(other.shape) == len(value.shape) and other.shape[1] == 1


def _flattened(node: Node, args: list, operand: Value, out: Value, name: str) -> Rule:
    """Each channel becomes as many features as it had positions, or its positions become one dimension."""
    shape, rank = operand.shape, len(operand.shape)
    if name in ("view", "reshape"):
        sizes = args[1:] if not isinstance(args[1], tuple | list) else args[1]
        if len(out.shape) != 2 or sizes[-1] != -1:
            raise refused(node, "only a shape (examples, -1) stays right when channels go")
        start, end = 1, rank - 1
    elif name == "Flatten":
        start, end = (1, rank - 1) if len(out.shape) == 2 else (2, rank - 1)
    else:
        start = args[1] if len(args) > 1 else node.kwargs.get("start_dim", 0)
        end = args[2] if len(args) > 2 else node.kwargs.get("end_dim", -1)
        start, end = start % rank, end % rank
    if start >= 2 or rank == 2:
        return Rule("same", out, (operand,), name=name)
    if start == 1 and end == rank - 1:
        return Rule("spread", out, (operand,), times=out.shape[1] // shape[1], name=name)
    raise refused(node, "only positions may be flattened, with or without the channels")


def refused(node: Node, why: str = "", module: nn.Module | None = None) -> ValueError:
    """An error that names the operation and where it stands."""
    why = why or "it is not known to work on each channel alone"
    if module is not None and type(module).__module__.startswith("torch.nn.") and not list(module.children()):
        why = f"{type(module).__name__} is not known to work on each channel alone"
    where = f" in {node.where!r}" if node.where else ""
    return ValueError(f"channels can't be followed through the operation {node.name!r}{where}: {why}")


def all_of(value: Value | Constant, device: torch.device) -> torch.Tensor:
    """All channels, booleans (C,)."""
    return torch.ones(value.shape[1], dtype=torch.bool, device=device)
