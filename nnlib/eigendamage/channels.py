"""Which channels are left at each place of a network when filters go? Followed through the graph of torch.fx.

A filter that is removed takes its channel along: out of the normalisation behind it, out of everything that works on
each channel alone, and out of the weights of the layers that read it. Where branches meet in a sum, a channel stays if
any branch has it, and the others are filled with zeros; where they are concatenated, each keeps its own.
Chapter: ``book/eigendamage.ipynb``.
"""

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from nnlib.eigendamage.trace import NORMS, shape_of

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


def plan(traced: fx.GraphModule, kept: Mapping[str, Tensor]) -> Surgery:
    """Follow the channels through the graph.

    Args:
        traced: By :func:`nnlib.eigendamage.trace.trace`.
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
        shape = shape_of(node)
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


def _tensor(node: fx.Node) -> torch.Size:
    """The shape of a node that must be a tensor of examples."""
    shape = shape_of(node)
    if shape is None:
        raise _refused(node, "its value is no tensor of examples")
    return shape


def _refused(node: fx.Node, why: str = "") -> ValueError:
    what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    why = why or "it is not known to work on each channel alone"
    return ValueError(f"channels can't be followed through the operation {what!r} ({node.name}): {why}")


def _through(layer: nn.Module, node: fx.Node, before: Tensor, kept: Tensor | None, surgery: Surgery) -> Tensor:
    """The channels that are left behind a module."""
    name, shape = str(node.target), _tensor(node)
    if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1:
        surgery.inputs[name] = before
        return before
    if isinstance(layer, nn.Linear) and len(shape) > 2:
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
    return before.repeat_interleave(_tensor(node)[1] // len(before))


def _sum(node: fx.Node, present: dict[fx.Node, Tensor], surgery: Surgery) -> Tensor:
    """A sum has the channels of both; what an operand lacks is filled with zeros."""
    operands = [arg for arg in node.args if isinstance(arg, fx.Node) and shape_of(arg) == shape_of(node)]
    if len(operands) != len(node.args):
        raise _refused(node, "only tensors of the same shape may be added")
    left, right = (present[arg] for arg in operands)
    for arg in dict.fromkeys(operands):
        if not torch.equal(present[arg], left | right):
            surgery.fills.append((node, arg, present[arg][left | right]))
    return left | right


def _alone(node: fx.Node, present: dict[fx.Node, Tensor]) -> Tensor:
    """The channels that are left behind a function or method of one tensor."""
    operand = node.args[0] if node.args else None
    before = present.get(operand) if isinstance(operand, fx.Node) else None
    if before is None or not isinstance(operand, fx.Node):
        raise _refused(node)
    options = [node.args[1:], node.kwargs.get("dim"), node.kwargs.get("start_dim")]
    if node.target in CHANNELWISE_FUNCTIONS or (node.op == "call_method" and node.target in CHANNELWISE_METHODS):
        return before
    if node.target in (torch.flatten, "flatten") and (options[0][:1] == (1,) or options[2] == 1):
        return _flattened(node, before)
    if node.target in ("view", "reshape", torch.reshape) and len(_tensor(node)) == 2 and node.args[-1] == -1:
        return _flattened(node, before)
    if node.target in (torch.mean, "mean"):
        dims = options[1] if options[1] is not None else (options[0][0] if options[0] else ())
        dims = dims if isinstance(dims, tuple | list) else (dims,)
        rank = len(_tensor(operand))
        if dims and all(d % rank >= 2 for d in dims):
            return before
        raise _refused(node, "only a mean over positions leaves the channels")
    raise _refused(node)
