"""One update of a state, forward and back, and what a sequence of them needs beside tensors that get gradients.

Paper: arXiv 1810.10999, section 3. Chapter: ``book/reversible_rnn.ipynb``.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nnlib.reversible_rnn.cells import Cell, Update
from nnlib.reversible_rnn.fixed_point import GATE_BITS, LARGEST, ONE, InformationBuffer, fixed_of, float_of

SAFE = 1e15  # products of inputs and weights below it neither overflow in float32 nor become NaN


class ReversalError(ArithmeticError):
    """The sequence run backwards did not meet its own past: a gate was not computed as it was on the way forward."""


@dataclass
class Layers:
    """What a sequence operation needs beside tensors that get gradients.

    Args:
        cell: The kind of cell.
        bits: The most bits that a unit forgets in a step: 0 to 10, or None for the format's 10.
        layers: Their number L.
        between: Dropout masks between a layer and the next, (B, H) each, or None.
        alive: Which examples have a step: (T, B), bool, or None for all.
        keep: None to show the whole output; a number s to show, and store, the first s units of h1 of the last layer:
            they are restored from there and need no buffer.
        count: Whether the buffers add up what was forgotten.
        check: Whether to keep all states, to compare them with those restored.
        buffers: Filled in by the way forward: one for each width.
        first: States h* at the start, by layer and part; also filled in.
        last: States h* at the end; used up by the way back.
        past: With ``check``, the states before each step.
    """

    cell: Cell
    bits: int | None
    layers: int
    between: list[Tensor] | None = None
    alive: Tensor | None = None
    keep: int | None = None
    count: bool = False
    check: bool = False
    buffers: dict[int, InformationBuffer] = field(default_factory=dict)
    first: list[list[Tensor]] | None = None
    last: list[list[Tensor]] | None = None
    past: list[list[list[Tensor]]] = field(default_factory=list)

    def split(self, tensors: tuple[Tensor, ...]) -> tuple[list[list[Tensor]], list[list[list[Tensor]]]]:
        """States by layer and part, and weights by layer and update, from the flat list of both."""
        flat = iter(tensors)
        states = [[next(flat) for _ in self.cell.names] for _ in range(self.layers)]
        sizes = [2 * len(update.rows) for update in self.cell.updates]
        weights = [[[next(flat) for _ in range(size)] for size in sizes] for _ in range(self.layers)]
        return states, weights

    def tensors(self) -> list[Tensor]:
        """What waits for the way back, beside inputs, weights and what is shown: end states, and the buffers."""
        ends = (self.first or [], self.last or [])
        states = [part for layers in ends for parts in layers for part in parts]
        return states + [words for buffer in self.buffers.values() for words in (buffer.words, *buffer.saved)]

    def buffer(self, h: Tensor) -> InformationBuffer:
        """The buffer for states of this width."""
        width = h.shape[1]
        if width not in self.buffers:
            self.buffers[width] = InformationBuffer(h, GATE_BITS if self.bits is None else self.bits, self.count)
        return self.buffers[width]

    def gates(self, update: Update, step: int, x: Tensor, parts: Any, weights: list[Tensor]):
        """z and u of an update, (B, n) each, and what their derivatives need; ended examples have z = 1 and u = 0."""
        z, u, found = update.gates(self.bits, x, *(parts[i] for i in update.reads), *weights)
        if self.alive is not None:
            alive = self.alive[step][:, None]
            z, u = torch.where(alive, z, 1.0), torch.where(alive, u, 0.0)
        return z, u, found

    def kept(self, layer: int, part: int) -> int:
        """How many units of this part are stored at every step."""
        return self.keep if self.keep and layer == self.layers - 1 and part == self.cell.hidden[0] else 0

    def step(self, h: Tensor, z: Tensor, u: Tensor, kept: int) -> Tensor:
        """z* h* / 1024 + u*, with what is forgotten in the buffer; stored units are multiplied without it."""
        gate, u = _whole(z), fixed_of(u)
        if not kept:
            return self.buffer(h).multiply(h, gate) + u
        stored = (h[:, :kept] * gate[:, :kept] >> GATE_BITS) + u[:, :kept]
        gate[:, :kept] = ONE
        new = self.buffer(h).multiply(h, gate) + u
        new[:, :kept] = fixed_of(float_of(stored, z.dtype))  # what the output, in its precision, can restore
        return new

    def back(self, h: Tensor, z: Tensor, u: Tensor, kept: int, stored: Tensor | None) -> Tensor:
        """The state before :meth:`step`; ``stored`` are its first units, where there are any."""
        gate = _whole(z)
        if kept:
            gate[:, :kept] = ONE
        old = self.buffer(h).unmultiply(h - fixed_of(u), gate)
        if stored is not None:
            old[:, :kept] = stored
        return old

    def seen(self, layer: int, floats: list[Tensor]) -> Tensor:
        """What the layer above is given, (B, H), or what is shown: (B, H) or (B, keep)."""
        if layer == self.layers - 1 and self.keep is not None:
            return floats[self.cell.hidden[0]][:, : self.keep]
        out = torch.cat([floats[i] for i in self.cell.hidden], 1)
        return out if self.between is None or layer == self.layers - 1 else out * self.between[layer]

    def compare(self, step: int, now: list[list[Tensor]]) -> None:
        """Name the first part, in the order of the way back, that is not what it was before this step."""
        for layer in reversed(range(self.layers)):
            for update in reversed(self.cell.updates):
                was, found = self.past[step][layer][update.target], now[layer][update.target]
                if not torch.equal(was, found):
                    name, count = self.cell.names[update.target], int((was != found).sum())
                    raise ReversalError(
                        f"undoing step {step} of {len(self.past)}: {name} of layer {layer} was restored differently, "
                        f"in {count} of {was.numel()} numbers"
                    )


def _whole(z: Tensor) -> Tensor:
    """z* of a gate that is a multiple of 1/1024."""
    return (z * ONE).to(torch.int64)


def checked(x: Tensor, states: list[list[Tensor]], weights: list[list[list[Tensor]]]) -> None:
    """Refuse what would leave the format: |h| grows by less than 1.001 a step, for |u| <= 1."""
    flat = [w for layer in weights for group in layer for w in group]
    largest = torch.stack([t.detach().abs().amax().double() for t in (x, *flat) if t.numel()]).amax()
    parts = [part.detach() for layer in states for part in layer if part.numel()]  # none in a batch without examples
    start = torch.stack([part.abs().amax().double() for part in parts]).amax() if parts else largest.new_zeros(())
    if start.isnan():
        raise ValueError("hx, the state, must be finite: it has a number that is none")
    if not largest < SAFE:
        raise ValueError(f"input and weights must be finite and below {SAFE:g}: the largest is {float(largest):g}")
    if not start + 1.001 * len(x) < LARGEST:
        raise ValueError(
            f"hx, the state, may leave the range of the fixed-point format, |h| < {LARGEST:g}: the largest at the "
            f"start is {float(start):g}, and there are {len(x)} steps"
        )
