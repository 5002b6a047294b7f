"""What do a training loop's own passes say of the curvature? Statistics that K-FAC takes along as the model runs.

A forward pass that is watched brings statistics at once: targets are drawn from its outputs, and their gradients are
taken at the layers' outputs. They count as soon as the loop backpropagates through these outputs, so that gradients
added up over several backward passes have the statistics of all of them, and a pass that only measures has no part.
Chapter: ``book/curvature.ipynb``.
"""

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nnlib.curvature.capture import Capture
from nnlib.curvature.factors import Means, Parts, average, eigenvalues, second_moments
from nnlib.curvature.kronecker import Eigenbasis, Kronecker
from nnlib.curvature.layers import Layer
from nnlib.curvature.outputs import Output, finite, output_vectors, predictions, wide
from nnlib.curvature.passes import Hook, full_precision, watchable

Samples = dict[str, tuple[Tensor, Tensor]]  # inputs and gradients by layer
Pass = tuple[int, dict[str, Parts], Samples]  # examples, A and S, samples


class Observer:
    """Watches a model's layers, while ``due``, and holds what the passes since the last step brought.

    Args:
        model: Hooked as long as the observer lives.
        layers: Of the model, by name.
        fisher: Which curvature; not ``empirical``.
        likelihood: From which targets are drawn.
        output: From what the model returns to its outputs; see :func:`nnlib.curvature.factors`.
        keep: Whether to keep the samples themselves, for EKFAC.
        seed: Of the drawn targets; each process of a distributed run draws its own.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, Layer],
        fisher: str,
        likelihood: str,
        output: Output | None,
        keep: bool,
        seed: int,
    ):
        self.model, self.layers, self.output = model, layers, output
        self.fisher, self.likelihood, self.keep, self.seed = fisher, likelihood, keep, seed
        self.due = True
        self.generator: torch.Generator | None = None
        self.latest: list[Pass] = []  # at most one, not backpropagated: it counts where gradients come in another way
        self.forget()
        self._attach()

    def _attach(self) -> None:
        """Hook the model, by weak references: an observer that is no longer used takes its hooks with it."""
        self.group: distributed.ProcessGroup | None = None
        capture, me = Capture(self.model, self.layers), weakref.ref(self)
        capture.on = False
        rows: list[int | None] = [None]

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            observer = me()
            capture.clear()
            # A shallow copy has taken the hooks along.
            capture.on = observer is not None and observer.due and module is observer.model and module.training
            capture.on = capture.on and watchable()
            if capture.on:
                rows[0] = next((len(x) for x in _tensors((args, kwargs)) if x.ndim), None)
            if observer is not None and (parallel := DistributedDataParallel._active_ddp_module) is not None:
                observer.group = parallel.process_group

        def after(module: nn.Module, args: Any, output: Any) -> None:
            if (observer := me()) is not None:
                observer._observe(capture, output, rows[0])
            capture.on = False
            capture.clear()

        handles = [
            self.model.register_forward_pre_hook(Hook(before), with_kwargs=True),
            self.model.register_forward_hook(Hook(after, capture)),
        ]
        weakref.finalize(self, _remove, capture, handles)
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # graphs compiled before do not call the hooks

    def _observe(self, capture: Capture, returned: Any, rows: int | None) -> None:
        if not capture.calls:
            return
        outputs = predictions(returned, self.output)
        if not (outputs.requires_grad and finite(outputs)):
            return  # neither is the loss: the step will say so
        if self.generator is None or self.generator.device != outputs.device:
            rank = distributed.get_rank(self.group) if self.group is not None else 0
            self.generator = torch.Generator(outputs.device).manual_seed(self.seed + rank)
        with full_precision(outputs):
            vectors = output_vectors(outputs, self.fisher, self.likelihood, None, self.generator)
            samples = capture.samples(outputs, vectors, rows=rows)
            found = {name: second_moments(*sample) for name, sample in samples.items()}
        # The largest entries are on the diagonals.
        if not found or not finite(torch.stack([part.trace() for parts in found.values() for part in parts])):
            return  # an overflow in half precision: the averages stay clean
        self.latest = waiting = [(len(outputs), found, samples if self.keep else {})]
        me = weakref.ref(self)

        def count(gradients: Any) -> None:
            if waiting and (observer := me()) is not None:
                observer._count(*waiting.pop())

        for node in {tensor.grad_fn for tensor in (outputs, *_tensors(returned))}:
            if node is not None:
                node.register_prehook(count)

    def _count(self, n: int, found: dict[str, Parts], samples: Samples) -> None:
        average(self.mean, n, found)
        if samples:
            self.samples.append((n, samples))

    def forget(self) -> None:
        """The gradients are thrown away, and so is what belongs to them."""
        self.mean: Means = {}  # of the factors, over the passes that were backpropagated
        self.samples: list[tuple[int, Samples]] = []

    def collect(self) -> tuple[dict[str, Kronecker], list[tuple[int, Samples]]]:
        """Mean factors of the passes since the last step, on all processes, and the samples of those here."""
        if not self.mean and self.latest:
            self._count(*self.latest.pop())
        mean, samples, self.latest = self.mean, self.samples, []
        self.forget()
        square = lambda out, width: ((width, width), (out, out))  # noqa: E731
        return {name: Kronecker(*parts) for name, parts in self._over_processes(mean, square).items()}, samples

    def eigenvalues(self, samples: list[tuple[int, Samples]], bases: Mapping[str, Eigenbasis]) -> dict[str, Tensor]:
        """EKFAC's mean eigenvalues of these samples in these bases, on all processes."""
        mean: Means = {}
        for n, sample in samples:
            average(mean, n, {name: (eigenvalues(*pair, bases[name]),) for name, pair in sample.items()})
        return {name: parts[0] for name, parts in self._over_processes(mean, lambda *shape: (shape,)).items()}

    def _over_processes(
        self, mean: Means, shapes: Callable[[int, int], tuple[tuple[int, ...], ...]]
    ) -> dict[str, Parts]:
        """Means over processes, weighted by their examples; layers that none has are left out."""
        if self.group is None or not self.due:
            return {name: parts for name, (_, parts) in mean.items()}
        # One sum of one length on every process, whichever layers it has seen: n times each mean, and n.
        sizes, flat = {}, []
        for name, layer in self.layers.items():
            like = wide(layer.weight.detach())
            sizes[name] = shapes(len(like), like[0].numel() + (layer.bias is not None))
            n, parts = mean.get(name, (0, tuple(like.new_zeros(shape) for shape in sizes[name])))
            flat += [*(n * part.flatten() for part in parts), like.new_tensor([n])]
        summed = torch.cat(flat)
        distributed.all_reduce(summed, group=self.group)
        rest, result = iter(summed.split([part.numel() for part in flat])), {}
        for name, shape in sizes.items():
            parts, n = [next(rest).view(size) for size in shape], next(rest).item()
            if n:
                result[name] = tuple(part / n for part in parts)
        return result

    def __getstate__(self) -> dict[str, Any]:
        """For copies and files: all but the hooks, which the copy sets anew on its own model."""
        generator = None if self.generator is None else (self.generator.device, self.generator.get_state())
        return vars(self) | {"generator": generator, "group": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if state["generator"] is not None:
            device, numbers = state["generator"]
            self.generator = torch.Generator(device)
            self.generator.set_state(numbers)
        self._attach()


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | Mapping):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(part)


def _remove(capture: Capture, handles: list[Any]) -> None:
    capture.remove()
    for handle in handles:
        handle.remove()
