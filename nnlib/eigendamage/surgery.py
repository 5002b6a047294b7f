"""How are filters removed? A copy of the model with thinner layers, and zeros where a sum needs them.

Chapter: ``book/eigendamage.ipynb``.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nnlib.eigendamage.channels import plan
from nnlib.eigendamage.trace import NORMS, trace


class Fill(nn.Module):
    """Puts channels in their places among zeros: (B, kept, ...) -> (B, channels, ...).

    Args:
        present: Which of the channels the input has, booleans (channels,).

    Chapter: ``book/eigendamage.ipynb``.

    >>> Fill(torch.tensor([True, False, True]))(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 2.]])
    """

    places: Tensor

    def __init__(self, present: Tensor):
        super().__init__()
        self.channels = len(present)
        self.register_buffer("places", present.nonzero()[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.channels, *x.shape[2:]).index_copy(1, self.places, x)


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
    assert isinstance(layer, nn.Linear | nn.Conv2d)  # nothing else is planned
    depthwise = filters is None
    outputs = channels if filters is None else filters
    _keep(layer, "weight", outputs)
    if layer.bias is not None:
        _keep(layer, "bias", outputs)
    if not depthwise:
        layer.weight = nn.Parameter(layer.weight[:, channels].clone(memory_format=torch.contiguous_format))
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
