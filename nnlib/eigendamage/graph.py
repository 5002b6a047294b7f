"""Who reads a layer's filters? The graph of a network by torch.fx, and which channels are left at each of its places.

A filter that is removed takes its channel along: out of the normalisation behind it, out of everything that works on
each channel alone, and out of the weights of the layers that read it. Where branches meet in a sum, a channel stays if
any branch has it, and the others are filled with zeros; where they are concatenated, each keeps its own.
Chapter: ``book/eigendamage.ipynb``.
"""

import copy
import operator
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from nnlib.modes import evaluating

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# What works on each channel alone. A removed channel counts as zero behind it, also where f(0) is not zero.
CHANNELWISE_MODULES = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.Upsample),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardtanh, nn.Hardswish),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
CHANNELWISE_FUNCTIONS = (
    *(torch.relu, torch.tanh, torch.sigmoid),
    *(functional.relu, functional.leaky_relu, functional.elu, functional.gelu, functional.silu),
    *(functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d),
)
CHANNELWISE_METHODS = ("relu", "tanh", "sigmoid", "contiguous")
ADDITIONS = (operator.add, operator.iadd, torch.add)


class Fill(nn.Module):
    """Puts channels in their places among zeros: (B, kept, ...) -> (B, channels, ...).

    Args:
        present: Which of the channels the input has, booleans (channels,).

    Chapter: ``book/eigendamage.ipynb``.

    >>> Fill(torch.tensor([True, False, True]))(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 2.]])
    """

    def __init__(self, present: Tensor):
        super().__init__()
        self.channels = len(present)
        self.register_buffer("places", present.nonzero()[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.channels, *x.shape[2:]).index_copy(1, self.places, x)


@dataclass
class Surgery:
    """What is left of each layer when filters go.

    Args:
        inputs: By layer, which of its input channels are left; for normalisations and depthwise convolutions, which
            of their channels.
        outputs: By layer whose filters go, which are left.
        fills: Where zeros must be filled in: (sum, operand) and which channels of the sum the operand has.
    """

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    fills: list[tuple[fx.Node, fx.Node, Tensor]] = field(default_factory=list)


def trace(model: nn.Module, x: Tensor) -> fx.GraphModule:
    """The graph of a model, with the shape of every value for an input like ``x``.

    Raises:
        ValueError: for a model whose graph depends on its input, with the line of its code and torch's reason.
    """
    try:
        traced = fx.symbolic_trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
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


def plan(traced: fx.GraphModule, kept: Mapping[str, Tensor]) -> Surgery:
    """Follow the channels through the graph.

    Args:
        traced: By :func:`trace`.
        kept: By layer, which filters stay, booleans (out,).

    Raises:
        ValueError: where channels can't be followed through an operation, a layer or an output, naming it.
    """
    surgery, present = Surgery(), {}  # node -> booleans (channels,)
    modules, device = dict(traced.named_modules()), next(traced.parameters()).device
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    if missing := set(kept) - set(calls):
        raise ValueError(f"the model does not call {', '.join(sorted(missing))}: its layers are {', '.join(calls)}")
    for node in traced.graph.nodes:
        shape = _shape(node)
        if node.op == "output":
            outputs = [arg for arg in node.all_input_nodes if arg in present and not present[arg].all()]
            if outputs:
                raise ValueError(
                    f"the model's output would lose channels: leave out the layer behind {outputs[0].name}"
                )
        elif shape is None:
            continue  # a size or another number
        elif node.op == "placeholder":
            present[node] = torch.ones(shape[1], dtype=torch.bool, device=device)
        elif node.op == "call_module":
            layer, before = modules[node.target], present[node.args[0]]
            if calls[node.target] > 1 and list(layer.parameters()):
                raise ValueError(f"layer {node.target!r} is called {calls[node.target]} times: its filters can't go")
            present[node] = _through(layer, node, before, kept.get(node.target), surgery)
        elif node.op == "call_function" and node.target in ADDITIONS:
            present[node] = _sum(node, present, surgery)
        elif node.op == "call_function" and node.target in (torch.cat, torch.concat):
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if dim not in (1, 1 - len(shape)):
                raise _refused(node, "only channels, dimension 1, may be concatenated")
            present[node] = torch.cat([present[part] for part in node.args[0]])
        else:
            present[node] = _alone(node, present)
    return surgery


def _shape(node: fx.Node) -> torch.Size | None:
    """The shape of a node's value, where it is a tensor of examples."""
    meta = node.meta.get("tensor_meta")
    return meta.shape if hasattr(meta, "shape") and len(meta.shape) >= 2 else None


def _refused(node: fx.Node, why: str = "") -> ValueError:
    what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    why = why or "it is not known to work on each channel alone"
    return ValueError(f"channels can't be followed through the operation {what!r} ({node.name}): {why}")


def _through(layer: nn.Module, node: fx.Node, before: Tensor, kept: Tensor | None, surgery: Surgery) -> Tensor:
    """The channels that are left behind a module."""
    name = node.target
    if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1:
        surgery.inputs[name] = before
        return before
    if isinstance(layer, nn.Linear) and len(_shape(node)) > 2:
        raise _refused(node, "the linear layer works on a sequence, whose dimension 1 is no channel")
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1):
        filters = len(layer.weight)
        kept = before.new_ones(filters) if kept is None else kept.to(before.device)
        if len(kept) != filters or not kept.any():
            raise ValueError(f"layer {name!r} has {filters} filters of which some must stay: got {kept.tolist()}")
        surgery.inputs[name], surgery.outputs[name] = before, kept
        return kept
    if isinstance(layer, NORMS):
        surgery.inputs[name] = before
        return before
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) in ((1, -1), (1, 3)):
        return _flattened(node, before)
    if isinstance(layer, CHANNELWISE_MODULES):
        return before
    raise _refused(node, f"{type(layer).__name__} is not known to work on each channel alone")


def _flattened(node: fx.Node, before: Tensor) -> Tensor:
    """Each channel becomes as many features as it had positions."""
    return before.repeat_interleave(_shape(node)[1] // len(before))


def _sum(node: fx.Node, present: dict[fx.Node, Tensor], surgery: Surgery) -> Tensor:
    """A sum has the channels of both; what an operand lacks is filled with zeros."""
    if not all(isinstance(arg, fx.Node) and _shape(arg) == _shape(node) for arg in node.args):
        raise _refused(node, "only tensors of the same shape may be added")
    left, right = (present[arg] for arg in node.args)
    for arg in dict.fromkeys(node.args):
        if not torch.equal(present[arg], left | right):
            surgery.fills.append((node, arg, present[arg][left | right]))
    return left | right


def _alone(node: fx.Node, present: dict[fx.Node, Tensor]) -> Tensor:
    """The channels that are left behind a function or method of one tensor."""
    before = present.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
    if before is None:
        raise _refused(node)
    options = [node.args[1:], node.kwargs.get("dim"), node.kwargs.get("start_dim")]
    if node.target in CHANNELWISE_FUNCTIONS or (node.op == "call_method" and node.target in CHANNELWISE_METHODS):
        return before
    if node.target in (torch.flatten, "flatten") and (options[0][:1] == (1,) or options[2] == 1):
        return _flattened(node, before)
    if node.target in ("view", "reshape", torch.reshape) and len(_shape(node)) == 2 and node.args[-1] == -1:
        return _flattened(node, before)
    if node.target in (torch.mean, "mean"):
        dims = options[1] if options[1] is not None else (options[0][0] if options[0] else ())
        dims = dims if isinstance(dims, tuple | list) else (dims,)
        rank = len(_shape(node.args[0]))
        if dims and all(d % rank >= 2 for d in dims):
            return before
        raise _refused(node, "only a mean over positions leaves the channels")
    raise _refused(node)


@torch.no_grad()
def remove_filters(model: nn.Module, x: Tensor, kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the model without these filters: thinner layers, not masks.

    Args:
        model: Traceable by torch.fx; left as it is.
        x: An input, for shapes, (B, ...).
        kept: By layer, which filters stay, booleans (out,).

    Returns:
        The copy, of the same class; a ``torch.fx.GraphModule`` where a sum needs zeros filled in.

    Raises:
        ValueError: for a model that can't be traced, an operation through which channels can't be followed, or a layer
            whose filters are outputs of the model; each is named.

    Source: arXiv 1905.05934, appendix, for sums. Chapter: ``book/eigendamage.ipynb``.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> remove_filters(net, torch.zeros(1, 3, 8, 8), {"0": torch.tensor([True, False, False, True])})[2].weight.shape
    torch.Size([2, 2, 3, 3])
    """
    model = copy.deepcopy(model)
    traced = trace(model, x)
    surgery = plan(traced, kept)
    for name, channels in surgery.inputs.items():
        _thin(model.get_submodule(name), channels, surgery.outputs.get(name))
    if not surgery.fills:
        return model
    for number, (node, operand, channels) in enumerate(surgery.fills):
        name = f"fill_{number}"
        traced.add_submodule(name, Fill(channels))
        with traced.graph.inserting_before(node):
            node.replace_input_with(operand, traced.graph.call_module(name, (operand,)))
    traced.recompile()
    return traced


def _thin(layer: nn.Module, channels: Tensor, filters: Tensor | None) -> None:
    """Keep these input channels and these filters of a layer, in place."""
    if isinstance(layer, NORMS):
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(layer, name) is not None:
                _keep(layer, name, channels)
        layer.num_features = int(channels.sum())
        return
    depthwise = filters is None
    _keep(layer, "weight", channels if depthwise else filters)
    if layer.bias is not None:
        _keep(layer, "bias", channels if depthwise else filters)
    if not depthwise:
        layer.weight = nn.Parameter(layer.weight[:, channels].clone(memory_format=torch.contiguous_format))
    sizes = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("in_channels", "out_channels")
    for name, size in zip(sizes, (channels, channels if depthwise else filters), strict=True):
        setattr(layer, name, int(size.sum()))
    if depthwise:
        layer.groups = layer.in_channels


def _keep(layer: nn.Module, name: str, which: Tensor) -> None:
    """Keep these entries of a parameter or buffer along its first dimension."""
    old = getattr(layer, name)
    new = old[which].clone(memory_format=torch.contiguous_format)
    setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
