"""What graph does a model compute? torch.fx, with the shape of every value. Chapter: ``book/eigendamage.ipynb``."""

import traceback

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.fx.proxy import TraceError

from nnlib.modes import evaluating

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def trace(model: nn.Module, x: Tensor) -> fx.GraphModule:
    """The graph of a model, with the shape of every value for an input like ``x``.

    Raises:
        ValueError: for a model whose graph depends on its input, with the line of its code and torch's reason.
    """
    try:
        traced = fx.symbolic_trace(model)
    except (TraceError, TypeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame.line for frame in frames if "/torch/" not in frame.filename.replace("\\", "/")]
        raise ValueError(f"torch.fx cannot trace {type(model).__name__} at {ours[-1]!r}: {error}") from error
    with torch.no_grad(), evaluating(traced):
        ShapeProp(traced).propagate(x[:1])
    return traced


def norms(traced: fx.GraphModule) -> dict[str, str]:
    """The batch normalisation right behind each layer, where there is one: names, layer -> normalisation."""
    modules, found = dict(traced.named_modules()), {}
    for node in traced.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], NORMS):
            before = node.args[0]
            if before.op == "call_module" and len(before.users) == 1:
                found[before.target] = node.target
    return found


def shape_of(node: fx.Node) -> torch.Size | None:
    """The shape of a node's value, where it is a tensor of examples."""
    shape = getattr(node.meta.get("tensor_meta"), "shape", ())
    return shape if len(shape) >= 2 else None


def layer_of(model: nn.Module, name: str) -> nn.Linear | nn.Conv2d:
    """The layer with weights of this name.

    Raises:
        ValueError: for a module of another kind.
    """
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise ValueError(f"{name!r} must be an nn.Linear or nn.Conv2d: got {type(layer).__name__}")
    return layer
