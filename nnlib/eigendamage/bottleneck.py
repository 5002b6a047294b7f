"""How is a layer written in its eigenbasis, and what is left when rows and columns go there? A product of three.

W = Q_S W' Q_A' exactly, so s = W x is three layers: x -> Q_A' x -> W' Q_A' x -> Q_S W' Q_A' x. Deleting columns C of W'
thins the first and rows R the last: a low-rank bottleneck with the layer's own inputs and outputs.
Paper: arXiv 1905.05934, section 4. Chapter: ``book/eigendamage.ipynb``.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import real, typed
from nnlib.eigendamage.cost import bottleneck_parameters
from nnlib.eigendamage.scores import rotate
from nnlib.eigendamage.weights import booleans
from nnlib.plain import Layer, why_not_plain


@typed
class Bottleneck(nn.Sequential):
    """Three linear maps in a row without anything between: ``input``, ``core`` and ``output``.

    For a convolution the first and last are 1 x 1, and the core has the kernel, stride, padding and dilation. The bias
    stays behind the last, so that padding with zeros commutes with the first and borders are exact.

    Args:
        input: Maps (in) to (columns), without bias.
        core: Maps (columns) to (rows), without bias.
        output: Maps (rows) to (out), with the layer's bias if it has one.

    Raises:
        TypeError: for other layers.
        ValueError: where their sizes don't fit, or the first or the second has a bias.

    Source: arXiv 1905.05934, section 4. Chapter: ``book/eigendamage.ipynb``.
    """

    input: Layer
    core: Layer
    output: Layer

    def __init__(self, input: Layer, core: Layer, output: Layer):
        for name, one, next_one in (("input", input, core), ("core", core, output)):
            groups = next_one.groups if isinstance(next_one, nn.Conv2d) else 1
            if len(one.weight) != next_one.weight.shape[1] * groups or one.bias is not None:
                raise ValueError(
                    f"input, core and output must follow each other, {name} without a bias: got {one}, {next_one}"
                )
        super().__init__(OrderedDict(input=input, core=core, output=output))

    @property
    def weight(self) -> Tensor:
        """The weight of the one layer that computes the same, (out, in) or (out, in, k, k), for code that reads it.

        ``nn.TransformerEncoderLayer`` does so in evaluation mode.
        """
        first, core = self.input.weight.flatten(1), self.core.weight  # (c, in), (r, c, ...)
        depthwise = isinstance(self.core, nn.Conv2d) and self.core.groups > 1  # then the core is (r, 1, ...)
        product = ("r...,ri->ri...", core[:, 0], first) if depthwise else ("rc...,ci->ri...", core, first)
        wide = torch.einsum(*product)
        return torch.einsum("or,ri...->oi...", self.output.weight.flatten(1), wide)

    @property
    def bias(self) -> Tensor | None:
        """The bias of that layer."""
        return self.output.bias


@typed
@torch.no_grad()
def bottleneck(layer: nn.Module, Q_A: Tensor, Q_S: Tensor, rows: Tensor, columns: Tensor) -> Bottleneck:
    """A layer as its bottleneck in the basis (Q_S, Q_A), with these rows and columns kept.

    Args:
        layer: ``nn.Linear``, ``nn.Conv2d`` without groups, or a :class:`Bottleneck`, whose core is then rotated and
            pruned and the bases merged: Q_A <- Q_A Q_A2, Q_S <- Q_S Q_S2. The number of layers does not grow.
        Q_A: Orthogonal, (in, in) of the layer or of the core.
        Q_S: Orthogonal, (out, out) of the layer or of the core.
        rows: Which rows of Q_S' W Q_A to keep, booleans (out,).
        columns: Which columns, booleans (in,).

    Returns:
        New modules on the layer's device; ``layer`` is left as it is. With everything kept it is the same function.

        What does not require a gradient in ``layer`` does not in them.

    Raises:
        ValueError: for a layer that has no bottleneck, isn't exactly ``nn.Linear`` or ``nn.Conv2d``, or carries hooks;
            a basis that is not orthogonal, or of another size; a selection that keeps nothing.

    Source: arXiv 1905.05934, section 4, algorithm 1. Chapter: ``book/eigendamage.ipynb``.

    >>> layer, all = nn.Conv2d(3, 4, 3, padding=1), torch.ones(4, dtype=torch.bool)
    >>> bottleneck(layer, torch.eye(3), torch.eye(4), rows=all, columns=all[:3])(torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 4, 8, 8])
    """
    shape = _checked(layer.core if isinstance(layer, Bottleneck) else layer).weight.shape
    for n, name, Q in ((shape[1], "Q_A", Q_A), (shape[0], "Q_S", Q_S)):
        real("n n", {"n": n}, finite=True, **{name: Q})
        far = float((Q.T @ Q - torch.eye(n, dtype=Q.dtype, device=Q.device)).abs().max())
        if not far < torch.finfo(Q.dtype).eps ** 0.5:
            raise ValueError(f"{name} must be orthogonal: {name}' {name} is {far:g} away from the identity")
    booleans(shape[0], rows=rows)
    booleans(shape[1], columns=columns)
    if not rows.any() or not columns.any():
        raise ValueError(
            f"rows and columns must keep at least one each: got {int(rows.sum())} and {int(columns.sum())}"
        )
    Q_A, Q_S = Q_A[:, columns], Q_S[:, rows]  # (in, c), (out, r)
    if isinstance(layer, Bottleneck):
        first, core, last = (_checked(part) for part in (layer.input, layer.core, layer.output))
        first_weight = torch.einsum("ci,c...->i...", Q_A, first.weight.to(Q_A.dtype))
        last_weight = torch.einsum("oc...,cr->or...", last.weight.to(Q_S.dtype), Q_S)
        return Bottleneck(_like(first, first_weight), _like(core, _rotated(core, Q_S, Q_A)), _like(last, last_weight))
    layer = _checked(layer)
    ones = (1,) * (layer.weight.ndim - 2)
    return Bottleneck(
        pointwise(layer, Q_A.T.reshape(*Q_A.T.shape, *ones), None),
        _like(layer, _rotated(layer, Q_S, Q_A), bias=False),
        pointwise(layer, Q_S.reshape(*Q_S.shape, *ones), layer.bias),
    )


def _rotated(layer: Layer, Q_S: Tensor, Q_A: Tensor) -> Tensor:
    return rotate(layer.weight.to(Q_A.dtype), Q_S, Q_A)  # bases of layers in half precision are in single


def smaller(layer: nn.Module, rows: Tensor, columns: Tensor) -> bool:
    """Whether the bottleneck with these rows and columns has fewer weights than the layer.

    Source: arXiv 1905.05934, section 4. Chapter: ``book/eigendamage.ipynb``.
    """
    r, c = int(rows.sum()), int(columns.sum())
    if isinstance(layer, Bottleneck):
        return (r, c) != (len(rows), len(columns))
    weight = _checked(layer).weight
    taps = weight[0, 0].numel()
    return bottleneck_parameters(len(columns), len(rows), 1, c, r) + (taps - 1) * r * c < weight.numel()


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of this name, wherever the model holds that, in the same mode."""
    old = model.get_submodule(name)
    layer.train(old.training)
    for place, module in list(model.named_modules(remove_duplicate=False)):
        if module is old:
            parent, _, last = place.rpartition(".")
            setattr(model.get_submodule(parent), last, layer)


def _checked(layer: nn.Module) -> Layer:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise ValueError(f"layer must be an nn.Linear or nn.Conv2d to have a bottleneck: got {type(layer).__name__}")
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        raise ValueError(f"a convolution with {layer.groups} groups has no bottleneck: its groups see different inputs")
    if why := why_not_plain(layer):
        raise ValueError(f"this layer has no bottleneck: {why}")
    return layer


def _like(layer: Layer, weight: Tensor, bias: bool = True) -> Layer:
    """A layer of the same kind with this weight, and the same bias unless told otherwise."""
    own = layer.bias if bias else None
    if isinstance(layer, nn.Linear):
        return filled(nn.Linear(weight.shape[1], weight.shape[0], own is not None, device="meta"), weight, own, layer)
    shape: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    shape |= {"padding_mode": layer.padding_mode, "bias": own is not None, "device": "meta"}
    kernel = (weight.shape[2], weight.shape[3])
    return filled(nn.Conv2d(weight.shape[1], weight.shape[0], kernel, **shape), weight, own, layer)


def pointwise(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    """The linear map that goes with a layer, at each position alone."""
    options: dict[str, Any] = {"bias": bias is not None, "device": "meta"}
    if isinstance(layer, nn.Linear):
        return filled(nn.Linear(weight.shape[1], weight.shape[0], **options), weight, bias, layer)
    return filled(nn.Conv2d(weight.shape[1], weight.shape[0], 1, **options), weight, bias, layer)


def filled(layer: Layer, weight: Tensor, bias: Tensor | None, old: Layer) -> Layer:
    """The layer with copies of these numbers as its parameters: no draw from the global generator is spent.

    Contiguous copies: a transposed 1 x 1 kernel makes PyTorch's CPU convolution write out of bounds in training. The
    dtype, and whether they are trained, are those of the ``old`` layer.
    """
    copied = weight.detach().to(old.weight.dtype).clone(memory_format=torch.contiguous_format)
    layer.weight = nn.Parameter(copied, old.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer
