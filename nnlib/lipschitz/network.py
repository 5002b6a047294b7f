"""How steep is a whole network, at most? Its computation is followed, operation by operation, from input to output.

``torch.fx`` writes down what the network computes, whatever its modules are called. Along that graph a bound is carried
from the input to every tensor: factors multiply along a chain, branches that are added add up, and branches side by
side count as the root of the sum of squares (in the 2-norm). What has no proven bound is refused by name.
Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

import math
import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from nnlib.arguments import real, shown, typed, within
from nnlib.lipschitz.bounds import DROPOUT, layer_bound, own_type, promises, repeats
from nnlib.lipschitz.layers import full_precision
from nnlib.lipschitz.norms import dense_norm, known_norm
from nnlib.lipschitz.operations import (
    BATCH,
    IN_PLACE,
    OPERATIONS,
    Memory,
    Step,
    Value,
    absolute_conv,
    not_the_batch,
)
from nnlib.lipschitz.rounding import NotCertifiable, together, worst_error
from nnlib.lipschitz.trace import attribute, called, place, trace
from nnlib.modes import evaluating

# Layers that may return their input itself, or lie where it lies, and the axis that some of them begin at.
AXES: dict[type, str] = {nn.Flatten: "start_dim", nn.Unflatten: "dim"}
VIEWS = (*AXES, *DROPOUT, nn.Identity, nn.PixelUnshuffle, nn.PixelShuffle)


@typed
@dataclass(frozen=True)
class LayerBound:
    """What one layer promises, each time that it runs.

    Args:
        name: Its place in the network, as in ``named_modules``; for an operation between layers, torch's name for it.
        kind: The name of its class, or of the operation.
        layer: The module, None for an operation.
        bound: On its gain, from the norm ``norms[0]`` of its input to ``norms[1]`` of its output.
        residual: Distance of its weight from its constraint.
        norms: (p, q), where a layer that is Lipschitz in every norm takes the norm it meets.
        passed: Its input and its output at the points; None where there are none.
    """

    name: str
    kind: str
    layer: nn.Module | None
    bound: float
    residual: float
    norms: tuple[float, float]
    passed: tuple[Tensor, Tensor] | None = None


@typed
@dataclass(frozen=True)
class Followed:
    """A network from input to output.

    Args:
        rows: Its layers and operations of one input, as often as they run, in order.
        output: What is known of the output.
        norms: (p, q) of input and output.
        walk: To go the same way again.
    """

    rows: list[LayerBound]
    output: Value
    norms: tuple[float, float]
    walk: "_Walk"

    @typed
    def rounding(self, reach: Tensor, unit: float, entry: Tensor | float = 0.0) -> Tensor:
        """The largest rounding error of the outputs, in the norm of the output, for all inputs within ``reach`` of x.

        Args:
            reach: Shape (n), >= 0, in the norm of the input.
            unit: u, the unit roundoff, in [0, 1); see ``nnlib.lipschitz.rounding.unit_roundoff``.
            entry: Error of the inputs themselves, >= 0, shape (n) or one number, in their norm.

        Returns:
            Shape (n), float64.

        Raises:
            TypeError: a reach that is no tensor of floating-point numbers.
            NotCertifiable: where sums are too long for the precision.
            ValueError: a network that was followed without inputs; arguments out of range or of another shape.
        """
        if self.walk.x is None:
            raise ValueError("rounding depends on the inputs, and the network was followed without: give follow an x")
        n = len(self.walk.x)
        real("n", {"n": n}, reach=reach)
        within("[0, 1)", unit=unit)
        for name, value in (("reach", reach), ("entry", torch.as_tensor(entry, device=reach.device))):
            if value.shape not in ((), (n,)) or not ((value >= 0) & value.isfinite()).all():
                raise ValueError(
                    f"{name} must be finite and at least 0, one for each of {n} points: got {shown(value)}"
                )
        with evaluating(self.walk.model), full_precision(reach.device.type):
            error = self.walk.run(reach, unit, entry).output.error
        assert error is not None
        return error


@typed
def follow(
    model: nn.Module,
    p: float | None = None,
    *,
    x: Tensor | None = None,
    max_residual: float = math.inf,
) -> Followed:
    """Carry bounds and values from a network's input to its output, in evaluation mode.

    With branches a with bound K_a and b with bound K_b, from the input's norm to the norm q of each,

        a + b: K_a + K_b,      (a, b): ‖(K_a, K_b)‖_q,      max(a, b), min(a, b): the same.

    Args:
        model: Any module that maps one tensor to one, each row by itself.
        p: Norm of the input; by default the one that the first layer with a norm asks for, else 2.
        x: Inputs, shape (n, ...), finite. Without them operations that need a shape are refused.
        max_residual: Largest distance of a layer's weight from its constraint, >= 0.

    Raises:
        NotCertifiable: naming the layer that is further from its constraint.
        ValueError: naming the layer or operation that has no bound, or whose norm is not what the one before it gives;
            another norm, inputs that are not finite, a residual below 0.

    Chapter: book/groupsort.ipynb

    >>> follow(nn.Sequential(nn.Flatten(), nn.ReLU())).output.gain
    1.0
    """
    if p is not None:
        known_norm(p=p)
    if x is not None:
        real("n inputs ...", x=x)
    if not max_residual >= 0:  # NaN fails too
        raise ValueError(f"max_residual must be at least 0: got {max_residual}")
    parameter = next(model.parameters(), x)
    device = "cpu" if parameter is None else parameter.device.type
    with evaluating(model), full_precision(device):
        return _Walk(model, *trace(model, device), p, x, max_residual).run()


class _Walk:
    """One way through a graph. ``env`` holds what is known of each node's result: a :class:`Value`, or a constant."""

    def __init__(
        self, model: nn.Module, root: nn.Module, graph: fx.Graph, p: float | None, x: Tensor | None, most: float
    ):
        self.model, self.root, self.graph, self.x, self.max_residual = model, root, graph, x, most
        asked = (attribute(root, node.target) for node in graph.nodes if node.op == "call_module")
        first = next((layer.norms[0] for layer in asked if promises(layer) and layer.norms), 2)
        self.norm = first if p is None else p
        self.bounds: dict[Any, tuple[float, float, Any]] = {}  # of layers that run again
        self.rows: list[LayerBound] = []
        self.env: dict[fx.Node, Any] = {}

    def run(self, reach: Tensor | None = None, unit: float = 0.0, entry: Tensor | float = 0.0) -> Followed:
        if reach is None and self.x is not None:
            reach = torch.zeros(len(self.x), dtype=torch.float64, device=self.x.device)
        self.reach, self.unit, self.rows = reach, unit, []
        self.input = Value(self.x, 1.0, self.norm, None if reach is None else 0 * reach + entry, Memory(), 0)
        last = {used: node for node in self.graph.nodes for used in node.all_input_nodes}
        result: Any = None
        for node in self.graph.nodes:
            try:
                args, kwargs = (map_aggregate(part, self._known) for part in (node.args, node.kwargs))
                if node.op == "placeholder":
                    self.env[node] = self.input
                elif node.op == "get_attr":
                    self.env[node] = attribute(self.root, node.target)
                elif node.op == "call_module":
                    self.env[node] = self._layer(node, args, kwargs)
                elif node.op == "output":
                    result = args[0]
                else:
                    self.env[node] = self._operation(node, args, kwargs)
            except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
                where = "" if str(error).startswith("layer ") else f"layer {place(node)}: "
                kind = NotCertifiable if isinstance(error, NotCertifiable) else ValueError
                raise kind(f"{where}{error}") from error
            for used in node.all_input_nodes:
                if last[used] is node:
                    del self.env[used]  # its numbers aren't needed any more
        if not isinstance(result, Value):
            raise ValueError(
                f"the network must return one tensor that depends on its input: it returns {type(result).__name__}"
            )
        return Followed(self.rows, result, (self.input.norm, result.norm), self)

    def _known(self, item: Any) -> Any:
        if not isinstance(item, fx.Node):
            return item
        value = self.env[item]
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Value) and part.written != part.memory.written:
                raise ValueError(f"{item.name} is used after it was changed in place: no bound is known")
        return value

    def _layer(self, node: fx.Node, args: tuple, kwargs: dict) -> Value:
        layer: Any = attribute(self.root, node.target)
        kind = own_type(layer)
        value, *more = (*args, *kwargs.values())
        if more or not isinstance(value, Value):
            raise ValueError(f"{kind.__name__} must be given one tensor that depends on the input")
        a = value.tensor
        size = None if a is None or a.ndim != 4 else (a.shape[2], a.shape[3])
        if (layer, value.norm, size) not in self.bounds:
            self.bounds[layer, value.norm, size] = layer_bound(layer, (value.norm, value.norm), size)
        bound, residual, norms = self.bounds[layer, value.norm, size]
        if not residual <= self.max_residual:
            raise NotCertifiable(
                f"layer {place(node)} ({kind.__name__}) is {residual:.3g} from its constraint, at most "
                f"max_residual = {self.max_residual:g} is allowed: take more steps to meet it, or train it on"
            )
        if norms is not None and norms[0] != value.norm:
            raise ValueError(
                f"layer {place(node)} ({layer}) is bounded from the {norms[0]}-norm, but it is given the "
                f"{value.norm}-norm (with p = {self.norm} at the network's input)"
            )
        if kind in AXES:
            not_the_batch(getattr(layer, AXES[kind]), value)
        weight = getattr(layer, "weight", None)
        weight = weight.detach() if isinstance(weight, Tensor) and weight.ndim in (2, 4) else None
        if a is not None and (a.ndim < 2 or (weight is not None and weight.ndim == 4 != a.ndim)):
            raise ValueError(f"{kind.__name__} is given the shape {tuple(a.shape)}: points lie along axis 0")
        norms = norms or (value.norm, value.norm)
        products = None
        if weight is not None:
            groups, times = getattr(layer, "groups", 1), repeats(layer, size) if kind is nn.Conv2d else 1
            absolute = dense_norm(weight.abs(), norms).item() if weight.ndim == 2 else absolute_conv(weight, groups)
            products = (math.prod(weight.shape[1:]), math.sqrt(times) * absolute, getattr(layer, "bias", None))
        in_place = bool(getattr(layer, "inplace", False))
        ours = kind.__module__.partition(".")[0] in ("nnlib", "torch")
        step = Step([value], [bound], view=kind in VIEWS or not ours, products=products)
        out = None
        if a is not None:
            given = a.clone() if in_place or not ours else a
            out = layer(given)
            if not (in_place or torch.equal(given, a)):
                raise ValueError(f"{kind.__name__} changes its input in place, or its input is not finite")
        result = self._result(step, out, norms[1], in_place)
        self._row(place(node), kind.__name__, layer, step, residual, result)
        return replace(result, made=(self.rows[-1], value))

    def _operation(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        name = IN_PLACE.get(node.target, node.target)
        in_place = name is not node.target or kwargs.get("inplace", False)
        if "input" in kwargs:
            args, kwargs = (kwargs["input"], *args), {key: value for key, value in kwargs.items() if key != "input"}
        values: list[Value] = []
        map_aggregate((args, kwargs), lambda item: values.append(item) if isinstance(item, Value) else None)
        shape = self._shape(node.target, args)
        if shape is not None:
            return shape
        if not values:
            return self._constant(node, args, kwargs)
        if name not in OPERATIONS or (in_place and not isinstance(args[0], Value)):
            raise ValueError(f"no Lipschitz bound is known for {called(node)}")
        step = OPERATIONS[name](*args, **kwargs)
        out: Any = None
        if self.x is not None:
            n = len(self.x)
            reshapes = name in ("view", "reshape", torch.reshape)

            def given(item: Any) -> Any:
                return item.tensor if isinstance(item, Value) else n if item is BATCH and reshapes else item

            args, kwargs = (map_aggregate(part, given) for part in (args, kwargs))
            args = (args[0].clone(), *args[1:]) if in_place else args
            out = self._call(node, args, kwargs)
        norm = step.inputs[0].norm
        if isinstance(out, tuple | list):
            return tuple(self._result(step, part, norm, in_place) for part in out)
        result = self._result(step, out, norm, in_place)
        if len(step.inputs) == 1:
            self._row(place(node), called(node), None, step, 0.0, result)
        return result

    def _shape(self, target: Any, args: Any) -> Any:
        """What is read off a tensor's shape; None for any other operation."""
        if target is operator.getitem and isinstance(args[0], tuple):
            return args[0][args[1]]
        reads = (target is getattr and args[1] in ("shape", "ndim")) or target in ("size", "dim")
        if not (reads and isinstance(args[0], Value)):
            return None
        if args[0].tensor is None:
            raise ValueError("it asks for a shape that isn't known: give shape=, that of one input")
        shape = (BATCH, *args[0].tensor.shape[1:])
        if target == "dim" or args[1:] == ("ndim",):
            return len(shape)
        return shape[args[1]] if target == "size" and len(args) > 1 else shape

    def _constant(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """An operation on weights alone, if it comes out the same twice and leaves them as they are."""
        if node.target in IN_PLACE or str(node.target).endswith("_") or "out" in kwargs:
            raise ValueError(f"{called(node)} changes a weight in place")
        first, second = (self._call(node, args, kwargs) for _ in range(2))
        same = torch.equal(first, second) if isinstance(first, Tensor) else first == second
        if not same:
            raise ValueError(f"{called(node)} comes out differently each time: no bound is known")
        return first

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Any = node.target
        return function(*args, **kwargs)

    def _result(self, step: Step, out: Tensor | None, norm: float, in_place: bool) -> Value:
        """What is known of a step's result, from what is known of its inputs."""
        values = step.inputs
        if any(value.norm != values[0].norm for value in values):
            raise ValueError(f"it joins tensors of bounds in the norms {[value.norm for value in values]}")
        if step.kept and out is None:
            raise ValueError("shapes must be known, to see that no entry is repeated: give shape=, that of one input")
        error = None
        if self.x is not None and self.reach is not None:
            points = isinstance(out, Tensor) and out.ndim > 0 and len(out) == len(self.x)
            if out is None or not points or out.dtype != self.x.dtype:
                raise ValueError(f"it must keep the points apart and their dtype: it gives {_described(out)}")
            if step.kept and any(value.tensor is None or value.tensor.shape != out.shape for value in values):
                raise ValueError(f"it repeats entries of a smaller tensor: it gives {_described(out)}")
            error = worst_error(step, out, norm, self.reach, self.unit)
        gain: Any = together(step, [factor * v.gain for factor, v in zip(step.factors, values, strict=True)])
        memory = values[0].memory if step.view or in_place else Memory()
        if in_place:
            if memory is self.input.memory:
                raise ValueError("it changes the network's input in place: what comes after it can't be certified")
            memory.written += 1
        return Value(out, gain, norm, error, memory, memory.written)

    def _row(self, name: str, kind: str, layer: Any, step: Step, residual: float, result: Value) -> None:
        (value,), (bound,) = step.inputs, step.factors
        passed = (value.tensor, result.tensor) if self.x is not None and self.x.requires_grad else None
        self.rows.append(LayerBound(name, kind, layer, bound, residual, (value.norm, result.norm), passed))  # pyright: ignore


def _described(out: Any) -> str:
    return f"{out.dtype} of shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
