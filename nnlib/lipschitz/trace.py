"""What does a network compute, whatever its modules are called? A graph of layers and operations, by ``torch.fx``.

What could compute something else than the graph says (hooks, values that are drawn or counted, a precision of its own)
is refused by name. Chapter: book/groupsort.ipynb.
"""

import operator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from nnlib.lipschitz.bounds import HOOKS, check_unchanged, promises
from nnlib.lipschitz.layers import full_precision


def trace(model: nn.Module, device: str) -> tuple[nn.Module, fx.Graph]:
    """What the network computes, as a graph over a root module, if it is the same twice.

    Its modules' attributes stay as they were.

    Args:
        model: In evaluation mode.
        device: The type of its device.

    Raises:
        ValueError: hooks, a forward that can't be followed, or one that isn't the same twice.

    >>> root, graph = trace(nn.ReLU(), "cpu")
    >>> [node.op for node in graph.nodes]
    ['placeholder', 'call_module', 'output']
    """
    if any(getattr(torch.nn.modules.module, f"_global{name}", None) for name in HOOKS):
        raise ValueError("a global hook of torch.nn.Module may change what every module computes: no bound is known")
    for name, module in model.named_modules():
        try:
            check_unchanged(module)
        except ValueError as error:
            raise ValueError(f"layer {name or 'model'}: {error}") from error
    state = {module: dict(vars(module)) for module in model.modules()}
    twice = []
    try:
        with full_precision(device), torch.no_grad():
            for _ in range(2):
                root = _Root(model)
                twice.append((root, _Tracer().trace(root)))
    except Exception as error:  # whatever a forward does with what it is given
        raise ValueError(f"{type(model).__name__} can't be followed, so that no bound is known: {error}") from error
    finally:
        for module, before in state.items():
            vars(module).clear()
            vars(module).update(before)
    written = [[f"{node.op} {node.target} {node.args} {node.kwargs}" for node in graph.nodes] for _, graph in twice]
    constants = [[attribute(root, node.target) for node in g.nodes if node.op == "get_attr"] for root, g in twice]
    if written[0] != written[1] or not all(map(torch.equal, *constants)):
        raise ValueError(f"{type(model).__name__} computes something else each time it is called: no bound is known")
    return twice[0]


def attribute(root: nn.Module, target: Any) -> Any:
    """What a node's target names.

    >>> attribute(nn.Sequential(nn.ReLU()), "0")
    ReLU()
    """
    return reduce(getattr, target.split("."), root)


def called(node: fx.Node) -> str:
    """The name of an operation: that of a function or of a tensor's method."""
    return str(getattr(node.target, "__name__", node.target))


def place(node: fx.Node) -> str:
    """As in ``named_modules`` of the network; for an operation also in which module."""
    if node.op == "call_module":
        return str(node.target).removeprefix("model").removeprefix(".") or "model"
    stack = [path.removeprefix("model").removeprefix(".") for path in node.meta.get("nn_module_stack", {})]
    return f"{called(node)} in {stack[-1] or 'model'}" if stack else called(node)


class _Root(nn.Module):
    """The network as a part, so that what its own ``__call__`` adds is followed too."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _Proxy(fx.Proxy):
    """torch.fx writes ``x += y`` as a sum, though it also changes whatever shares memory with x."""

    def _changed(self, target: Any, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    def __iadd__(self, other: Any) -> Any:
        return self._changed(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._changed(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._changed(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._changed(operator.itruediv, other)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """What makes a promise, and torch's own layers; everything else is followed into."""
        house, _, part = type(m).__module__.partition(".")
        return promises(m) or (house == "torch" and type(m) is not nn.Sequential and not part.startswith("fx."))

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
            raise TypeError("a part of it runs under autocast, in another precision")
        return super().create_node(*args, **kwargs)
