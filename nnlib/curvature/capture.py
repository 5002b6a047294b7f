"""What goes into a layer and what gradient comes back to it, example by example: the raw material of the factors.

Hooks note the inputs x of each layer and where in the graph its output s stands; one backward pass from the network's
output then gives ds = d(loss of an example)/ds. The model, its buffers and its ``.grad`` are left as they were.
Chapter: ``book/curvature.ipynb``.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from nnlib.curvature import layout as rows_of
from nnlib.curvature.layers import Layer
from nnlib.curvature.layout import Layout
from nnlib.curvature.outputs import wide
from nnlib.curvature.passes import Hook, full_precision
from nnlib.curvature.patches import locations, patches

Key = tuple[str, int, torch.Size, int]  # layer, number of its call, shape of the input, B


@dataclass
class Call:
    """A layer's call: its input, how often that had been changed in place until then, and its output's place."""

    x: Tensor
    version: int
    edge: GradientEdge


@dataclass
class Capture:
    """Inputs of the layers, and the places of their outputs in the graph, in one forward pass.

    Args:
        model: The network.
        layers: Of it, by name; each is hooked until :meth:`remove`.

    A layer that is called several times in a pass (shared weights) counts as one layer with more locations.
    """

    model: nn.Module
    layers: Mapping[str, Layer]

    def __post_init__(self):
        self.on = True
        self.known: dict[Key, Layout] = {}  # what the graph has told
        self.clear()
        self._handles = [
            # First of the layer's hooks: others may change the output, and the graph then knows what they did.
            layer.register_forward_hook(Hook(self._note(name), self), with_kwargs=True, prepend=True)
            for name, layer in self.layers.items()
        ]

    def _note(self, name: str):
        def hook(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
            # A shallow copy of a model takes the hooks along; its passes are not ours.
            if self.on and layer is self.layers[name] and output.requires_grad:
                x = (args[0] if args else kwargs["input"]).detach()
                # The edge, not the tensor: a ReLU that works in place would make the tensor stand for its own output.
                self.calls[name].append(Call(x, x._version, get_gradient_edge(output)))

        return hook

    def clear(self) -> None:
        """Forget the last pass."""
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.barred: list[str] = []  # before a re-entrant checkpoint, through which torch takes no such gradients

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def samples(
        self, outputs: Tensor, vectors: Tensor, *, rows: int | None, channels: bool = False
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """What the last pass brought to each layer: its inputs and the gradients at its outputs.

        The inputs have a last column for the bias, where there is one. T is the number of locations: positions of a
        sequence, positions of a convolution's output; where there is one alone, this axis is left out. For
        convolutions ``in`` is channels * height * width of the kernel, in the order of ``weight.flatten(1)``; with
        ``channels`` it is the channels alone, and every pixel of the padded input is a location, weighted by how many
        patches see it; the bias column then stands for 1 / (number of offsets), so that the offsets together see it
        once.

        Args:
            outputs: Of the network, shape (B, ..., C), with its graph; the graph is kept.
            vectors: Shape (K, B, ..., C): the gradients are those of sum_b <vectors_kb, outputs_b>.
            rows: Length of the first axis of the model's input, where it is known.
            channels: See above.

        Returns:
            By layer, inputs (B, T, in) or (B, in) and gradients (K, B, T, out) or (K, B, out). Layers that were not
            called, have no influence on the outputs, or are barred by a checkpoint are left out.

        Raises:
            ValueError: for a layer whose input can't be told apart into the examples, or was changed in place.
        """
        self.on = False  # a checkpoint runs layers again in the backward pass

        def back(v: Tensor, names: list[str]) -> list[Tensor | None]:
            edges = [call.edge for name in names for call in self.calls[name]]
            return [*torch.autograd.grad(outputs, edges, v.to(outputs.dtype), retain_graph=True, allow_unused=True)]

        with full_precision(outputs):  # the graph remembers its own casts
            names = [name for name in self.layers if name in self.calls]
            try:
                found = [back(vectors[0], names)] if names else []
            except RuntimeError as error:
                if "use_reentrant" not in str(error):
                    raise
                self.barred = [name for name in names if not _works(lambda name=name: back(vectors[0], [name]))]
                names = [name for name in names if name not in self.barred]
                found = [back(vectors[0], names)] if names else []
            if not names:
                return {}
            found += [back(vectors[k], names) for k in range(1, vectors.shape[0])]
            examples = outputs.shape[0]
            plain = rows == examples and len(found) == 1 and self._plain(names, examples)
            probes = None if plain or self._known(names, examples) else self._probes(back, vectors, found, names)
            result, at = {}, 0
            for name in names:
                layer, inputs, gradients = self.layers[name], [], []
                for number, call in enumerate(self.calls[name]):
                    ds, probe = [gradient[at] for gradient in found], None if probes is None else probes[at]
                    at += 1
                    if ds[0] is None:  # this call does not reach the outputs
                        continue
                    if call.x._version != call.version:
                        raise ValueError(f"layer {name!r}: its input was changed in place after it was used")
                    x = patches(layer, wide(call.x), channels)
                    ds = [locations(layer, wide(part)) for part in ds if part is not None]
                    if not plain:
                        arrange = self._layout(name, number, call.x, probe, examples).arrange
                        x, ds = arrange(x), [arrange(part) for part in ds]
                    inputs.append(x)
                    gradients.append(ds[0][None] if len(ds) == 1 else torch.stack(ds))
                if inputs:
                    x, ds = _joined(inputs, 1), _joined(gradients, 2)
                    result[name] = (x[:, 0], ds[:, :, 0]) if x.ndim == 3 and x.shape[1] == 1 else (x, ds)
        return result

    def _plain(self, names: list[str], examples: int) -> bool:
        """Whether each layer was called once, on one row an example, or one image.

        Then nothing is asked of the graph for a single vector, which would cost another backward pass. For several,
        examples that depend on each other would make the mean over them wrong.
        """
        for name in names:
            (call, *more), axes = self.calls[name], 2 if isinstance(self.layers[name], nn.Linear) else 4
            if more or call.x.ndim != axes or call.x.shape[0] != examples:
                return False
        return True

    def _probes(
        self,
        back: Callable[[Tensor, list[str]], list[Tensor | None]],
        vectors: Tensor,
        found: list[list[Tensor | None]],
        names: list[str],
    ) -> list[tuple[Tensor, Tensor] | None]:
        """For each call, gradients by a mixture of the vectors, and the same weighted by example; None says nothing."""
        mix, a = rows_of.weights(len(vectors), vectors), rows_of.weights(vectors.shape[1], vectors)
        weighted = back(torch.tensordot(mix, vectors, 1) * a.view(-1, *(1 for _ in vectors.shape[2:])), names)
        layers = [self.layers[name] for name in names for _ in self.calls[name]]
        probes, sizes = [], []
        for layer, *ds, last in zip(layers, *found, weighted, strict=True):
            if last is None:
                probes.append(None)
                continue
            mixture = torch.tensordot(mix.to(last), torch.stack(ds), 1)
            probes.append((locations(layer, wide(mixture)), locations(layer, wide(last))))
            sizes.append(float(wide(mixture).norm()))
        # Far below the others it is rounding, which belongs to no example.
        floor = [10 * torch.finfo(last.dtype).eps * max(sizes) if last is not None else 0.0 for last in weighted]
        return [
            None if probe is None or not float(probe[0].norm()) > least else probe
            for probe, least in zip(probes, floor, strict=True)
        ]

    def _known(self, names: list[str], examples: int) -> bool:
        calls = ((name, i, call.x) for name in names for i, call in enumerate(self.calls[name]))
        return all(self._key(*call, examples) in self.known for call in calls)

    @staticmethod
    def _key(name: str, number: int, x: Tensor, examples: int) -> Key:
        return name, number, x.shape, examples

    def _layout(self, name: str, number: int, x: Tensor, probe: tuple[Tensor, Tensor] | None, examples: int) -> Layout:
        linear = isinstance(self.layers[name], nn.Linear)
        found = rows_of.layouts(x.shape[:-1] if linear else x.shape[: x.ndim - 3], examples)
        key = self._key(name, number, x, examples)
        told = self.known.get(key)
        if told is None and found and probe is None:  # without a gradient, where any will do
            return found[0]
        if told is None and found and probe is not None:
            told = rows_of.choose(found, *probe)
            if told is None and len(found) == 1 and coupled(self.model):
                told = found[0]  # the graph can't tell, but the lengths do
            if told is not None:
                self.known[key] = told
        if told is None:
            mixed = f", and examples see each other through {coupled(self.model)!r}" if coupled(self.model) else ""
            raise ValueError(
                f"layer {name!r}: its input of shape {tuple(x.shape)} can't be told apart into the {examples} examples "
                f"of the network's output{mixed}; let the first axis of inputs and outputs count examples that do not "
                "depend on each other, or leave the layer out"
            )
        return told


def _works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except RuntimeError:
        return False
    return True


def coupled(model: nn.Module) -> str | None:
    """The name of a normalisation over the batch, through which examples see each other, if one is on."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            return name
    return None


def _joined(calls: list[Tensor], axis: int) -> Tensor:
    """The calls of a shared layer as one with more locations, which stand along ``axis``."""
    return calls[0] if len(calls) == 1 else torch.cat(calls, axis)
