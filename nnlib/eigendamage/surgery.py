"""How are filters removed? A copy of the model with thinner layers, and zeros where a sum needs them.

Chapter: ``book/eigendamage.ipynb``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import examples, passing, typed
from nnlib.eigendamage.channels import Surgery, plan
from nnlib.eigendamage.moves import Moved
from nnlib.eigendamage.trace import Graph, copied, run, trace
from nnlib.eigendamage.verify import verify
from nnlib.modes import evaluating
from nnlib.plain import tied


@typed
@torch.no_grad()
def remove_filters(model: nn.Module, x: Tensor, kept: Mapping[str, Tensor]) -> nn.Module:
    """A copy of the model without these filters: thinner layers, not masks.

    The copy runs the model's own code, in both modes. Where a sum needs zeros in the place of channels that are gone, a
    hook on the module before it puts them there. Before it is returned its output is compared with that of the model
    whose channels are set to zero.

    Args:
        model: Left as it is; what it computes must not depend on numbers that it computes.
        x: An input, for shapes, (B, ...).
        kept: By layer, which filters stay, booleans (out,).

    Returns:
        The copy, of the same class. What does not require a gradient in the model does not in the copy.

    Raises:
        ValueError: for an operation through which channels can't be followed, a layer that isn't exactly ``nn.Linear``
            or ``nn.Conv2d``, a layer whose filters are outputs of the model; each is named. Also where the copy does
            not compute what it should.

    Source: arXiv 1905.05934, appendix, for sums. Chapter: ``book/eigendamage.ipynb``.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> remove_filters(net, torch.zeros(1, 3, 8, 8), {"0": torch.tensor([True, False, False, True])})[2].weight.shape
    torch.Size([2, 2, 3, 3])
    """
    examples(x)
    with passing(x=x), evaluating(model):
        model(x[:1])
    graphs = [trace(model, x, training) for training in (False, True)]
    surgery = plan(graphs, kept)
    original, model, shared = model, copied(model), tied(model)
    changed = [name for name in surgery.inputs if _changes(name, surgery)]
    for name in changed:
        for key in ("weight", "bias"):
            if other := shared.get(f"{name}.{key}"):
                raise ValueError(f"{name}.{key} is shared with {other}: it can't lose channels")
    expected = masked_outputs(model, x, graphs[0], surgery)
    for name in changed:
        _thin(model.get_submodule(name), surgery.inputs[name], surgery.outputs.get(name))
    for (name, key), (source, target) in surgery.moves.items():
        module, hook = model.get_submodule(name), Moved(source, target, key)
        if key is None:
            module.register_forward_hook(hook)
        else:
            module.register_forward_pre_hook(hook, with_kwargs=True)
    verify(model, original, x, expected)
    return model


def _changes(name: str, surgery: Surgery) -> bool:
    return not (surgery.inputs[name].all() and surgery.outputs.get(name, surgery.inputs[name]).all())


def masked_outputs(model: nn.Module, x: Tensor, graph: Graph, surgery: Surgery) -> list[Any]:
    """What the model computes in evaluation mode when every channel that is gone is zero at every place; two draws."""
    masks = {}
    for number, node in enumerate(graph.nodes):
        gone = surgery.present.get(node.out[0]) if len(node.out) == 1 else None
        if gone is not None and not gone.all():
            masks[number] = gone.view(1, -1, *[1] * (len(node.out[0].shape) - 2))
    return [run(model, x, masks=masks, seed=seed)[1] for seed in (0, 1)]


def _thin(layer: nn.Module, channels: Tensor, filters: Tensor | None) -> None:
    """Keep these input channels and these filters of a layer, in place."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):  # a batch normalisation: nothing else is planned
        for name in ("weight", "bias", "running_mean", "running_var"):
            if getattr(layer, name) is not None:
                _keep(layer, name, channels)
        setattr(layer, "num_features", int(channels.sum()))  # noqa: B010 - torch's stubs know tensors only
        return
    depthwise = filters is None
    outputs = channels if filters is None else filters
    _keep(layer, "weight", outputs)
    if layer.bias is not None:
        _keep(layer, "bias", outputs)
    if not depthwise:
        cut = layer.weight[:, channels].clone(memory_format=torch.contiguous_format)
        layer.weight = nn.Parameter(cut, layer.weight.requires_grad)
    sizes = ("in_features", "out_features") if isinstance(layer, nn.Linear) else ("in_channels", "out_channels")
    for name, size in zip(sizes, (channels, outputs), strict=True):
        setattr(layer, name, int(size.sum()))
    if depthwise and isinstance(layer, nn.Conv2d):
        layer.groups = layer.in_channels


def _keep(layer: nn.Module, name: str, which: Tensor) -> None:
    """Keep these entries of a parameter or buffer along its first dimension."""
    old = getattr(layer, name)
    new = old[which].clone(memory_format=torch.contiguous_format)
    setattr(layer, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
