"""What goes into a layer and what gradient comes back to it, example by example: the raw material of the factors.

Hooks note the inputs x of each layer and where in the graph its output s stands; one backward pass from the network's
output then gives ds = d(loss of an example)/ds. The model, its buffers and its ``.grad`` are left as they were.
Chapter: ``book/curvature.ipynb``.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional

FISHERS = ("sampled", "exact", "empirical", "gauss_newton", "gauss_newton_exact")
LIKELIHOODS = ("categorical", "gaussian")
Layer = nn.Linear | nn.Conv2d  # with a Kronecker block


def blocks(model: nn.Module) -> dict[str, Layer]:
    """The layers that have a Kronecker block, by name: ``nn.Linear`` and ``nn.Conv2d`` without groups.

    Chapter: ``book/curvature.ipynb``.

    >>> list(blocks(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))))
    ['0', '2']
    """
    return {name: layer for name, layer in model.named_modules() if _has_block(layer)}


def chosen(model: nn.Module, names: Iterable[str] | None) -> dict[str, Layer]:
    """All layers with a Kronecker block, or those of these names.

    Raises:
        ValueError: for a name that the model does not have, or a layer without a Kronecker block.
    """
    if names is None:
        found = blocks(model)
        if not found:
            raise ValueError("the model has no layer with a Kronecker block: nn.Linear or nn.Conv2d without groups")
        return found
    layers, found = dict(model.named_modules()), {}
    for name in names:
        if name not in layers:
            raise ValueError(f"the model has no layer {name!r}; with a Kronecker block are {', '.join(blocks(model))}")
        layer = layers[name]
        if not _has_block(layer):
            raise ValueError(f"layer {name!r} has no Kronecker block: {_refusal(layer)}")
        found[name] = layer
    return found


def _has_block(layer: nn.Module) -> TypeGuard[Layer]:
    return _refusal(layer) is None


def _refusal(layer: nn.Module) -> str | None:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"{type(layer).__name__} is neither nn.Linear nor nn.Conv2d"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"its {layer.groups} groups see different inputs, so one factor does not describe them"
    return None


@dataclass
class Capture:
    """Inputs of the layers, and the places of their outputs in the graph, in one forward pass.

    Args:
        layers: By name; each is hooked until :meth:`remove`.

    A layer that is called several times in a pass (shared weights) counts as one layer with more locations.
    """

    layers: Mapping[str, Layer]

    def __post_init__(self):
        self.on = True
        self.clear()
        self._handles = [layer.register_forward_hook(self._note(name)) for name, layer in self.layers.items()]

    def _note(self, name: str):
        def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            # A deep copy of a model takes the hooks along; its passes are not ours.
            if self.on and layer is self.layers[name] and output.requires_grad:
                self.inputs[name].append(_wide(args[0].detach()))
                # The edge, not the tensor: a ReLU that works in place would make the tensor stand for its own output.
                self.edges[name].append(get_gradient_edge(output))

        return hook

    def clear(self) -> None:
        """Forget the last pass."""
        self.inputs: dict[str, list[Tensor]] = defaultdict(list)
        self.edges: dict[str, list[GradientEdge]] = defaultdict(list)

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def samples(self, outputs: Tensor, vectors: Tensor, channels: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
        """What the last pass brought to each layer: its inputs and the gradients at its outputs.

        The inputs have a last column for the bias, where there is one. T is the number of locations: 1 for vectors,
        positions of a sequence, positions of a convolution's output. For convolutions ``in`` is channels * height *
        width of the kernel, in the order of ``weight.flatten(1)``; with ``channels`` it is the channels alone, and
        every pixel of the padded input is a location, weighted by how many patches see it; the bias column then stands
        for 1 / (number of offsets), so that the offsets together see it once.

        Args:
            outputs: Of the network, shape (B, C), with its graph; the graph is kept.
            vectors: Shape (K, B, C): the gradients are those of sum_b <vectors_kb, outputs_b>.
            channels: See above.

        Returns:
            By layer, inputs (B, T, in) and gradients (K, B, T, out).
        """
        names = [name for name in self.layers if self.edges[name]]
        edges = [edge for name in names for edge in self.edges[name]]
        gradients: dict[str, list[Tensor]] = {name: [] for name in names}
        for v in vectors:
            found = iter(torch.autograd.grad(outputs, edges, v, retain_graph=True, allow_unused=True))
            for name in names:
                calls = [next(found) for _ in self.edges[name]]
                if any(ds is None for ds in calls):
                    raise ValueError(f"layer {name!r} has no influence on the output: leave it out of `layers`")
                gradients[name].append(_joined([_locations(self.layers[name], _wide(ds)) for ds in calls]))
        inputs = {
            name: _joined([_patches(self.layers[name], x, channels) for x in self.inputs[name]]) for name in names
        }
        return {name: (inputs[name], torch.stack(gradients[name])) for name in names}


def _joined(calls: list[Tensor]) -> Tensor:
    """The calls of a shared layer, each (B, T, ...), as one with more locations."""
    return calls[0] if len(calls) == 1 else torch.cat(calls, 1)


def _wide(tensor: Tensor) -> Tensor:
    """Second moments of half-precision numbers are taken in single precision: their squares would overflow."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _patches(layer: Layer, x: Tensor, channels: bool) -> Tensor:
    if isinstance(layer, nn.Linear):
        rows = x.reshape(len(x), -1, x.shape[-1])  # (B, T, in)
        ones = rows.new_ones(*rows.shape[:2], 1)
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = functional.pad(x, list(layer._reversed_padding_repeated_twice), mode=mode)
        if channels:
            weights = _visits(layer, x).sqrt()  # (1, 1, H, W)
            rows = (x * weights).flatten(2).transpose(1, 2)  # (B, H W, c)
            ones = (weights / math.prod(layer.kernel_size)).flatten()[:, None].expand(len(x), -1, 1)
        else:
            rows = functional.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride).transpose(1, 2)
            ones = rows.new_ones(*rows.shape[:2], 1)  # rows: (B, T, c k k)
    return rows if layer.bias is None else torch.cat([rows, ones], 2)


def _visits(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """How often patches see each pixel of the padded input, (1, 1, H, W), as multiples of the mean over pixels.

    The mean over patches and offsets of x x' is then the mean over pixels of visits * x x', k k times fewer products.
    """
    size, options = x.shape[2:], (layer.kernel_size, layer.dilation, 0, layer.stride)
    patches = functional.unfold(x.new_ones(1, 1, *size), *options)  # (1, k k, T)
    counts = functional.fold(patches, size, *options)
    return counts / counts.mean()


def _locations(layer: Layer, ds: Tensor) -> Tensor:
    """Gradients at a layer's output as (B, T, out)."""
    if isinstance(layer, nn.Conv2d):
        return ds.flatten(2).transpose(1, 2)
    return ds.reshape(len(ds), -1, ds.shape[-1])


def output_vectors(
    outputs: Tensor, fisher: str, likelihood: str, y: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """The vectors v_k at the outputs f for which sum_k v_k v_k' is, in expectation, the curvature of the loss there.

    ========================  ===========================================  ============================
    fisher                    categorical, p = softmax(f)                  gaussian, -log p = |f - y|^2 / 2
    ========================  ===========================================  ============================
    ``sampled``               p - e_c, one class c drawn from p            one draw from N(0, I)
    ``exact``                 sqrt(p_c) (p - e_c) for every class c        e_c for every output c
    ``empirical``             p - e_y, the true class y                    f - y
    ``gauss_newton``          one draw from N(0, I)                        one draw from N(0, I)
    ``gauss_newton_exact``    e_c for every output c                       e_c for every output c
    ========================  ===========================================  ============================

    Args:
        outputs: f, shape (B, C).
        fisher: One of ``FISHERS``.
        likelihood: One of ``LIKELIHOODS``.
        y: True targets: (B,) classes, or (B, C); for ``empirical`` alone.
        generator: On the device of ``outputs``; for ``sampled`` and ``gauss_newton``.

    Returns:
        Shape (K, B, C), K = 1 or C.
    """
    f = outputs.detach()
    _check(f, fisher, likelihood, y)
    eye = torch.eye(f.shape[1], dtype=f.dtype, device=f.device)
    if fisher == "gauss_newton" or (fisher, likelihood) == ("sampled", "gaussian"):
        return torch.randn(f.shape, generator=generator, dtype=f.dtype, device=f.device)[None]
    if fisher == "gauss_newton_exact" or (fisher, likelihood) == ("exact", "gaussian"):
        return eye[:, None].expand(-1, len(f), -1)  # (C, B, C)
    if likelihood == "gaussian":
        assert y is not None  # checked above
        return (f - y)[None]
    p = f.softmax(1)
    if fisher == "exact":
        return p.T.sqrt()[:, :, None] * (p - eye[:, None])  # (C, B, C)
    if fisher == "sampled":
        u = torch.rand(len(p), 1, generator=generator, dtype=p.dtype, device=p.device)
        # The inverse of the distribution function; in rounding the sum of p may end below u.
        y = torch.searchsorted(p.cumsum(1), u)[:, 0].clamp(max=p.shape[1] - 1)
    return (p - eye[y])[None]


def _check(f: Tensor, fisher: str, likelihood: str, y: Tensor | None) -> None:
    for name, value, known in (("fisher", fisher, FISHERS), ("likelihood", likelihood, LIKELIHOODS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}: got {value!r}")
    if f.ndim != 2:
        raise ValueError(f"the network's output must have shape (batch, outputs): got {tuple(f.shape)}")
    if (fisher == "empirical") != (y is not None):
        raise ValueError(f"the true targets y are for fisher='empirical' alone, which needs them: got {fisher!r}")
    if y is not None:
        wanted = f.shape[:1] if likelihood == "categorical" else f.shape
        if y.shape != wanted:
            raise ValueError(f"y must have shape {tuple(wanted)} for {likelihood} targets: got {tuple(y.shape)}")
