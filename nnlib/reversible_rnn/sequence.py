"""A whole sequence as one operation that keeps its last state and a buffer of forgotten bits, and nothing else.

Backwards, each update is computed once more: its gates undo the update, and the state so restored is what the gradient
needs. So a step costs one forward pass on the way forward, and one forward and one backward pass on the way back.
Paper: arXiv 1810.10999, section 3. Chapter: ``book/reversible_rnn.ipynb``.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnlib.reversible_rnn.cells import Cell, Update
from nnlib.reversible_rnn.fixed_point import GATE_BITS, LARGEST, ONE, InformationBuffer, to_fixed, to_float

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
        states = [part for layers in (self.first, self.last) for parts in layers for part in parts]
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
        gate, u = _whole(z), to_fixed(u)
        if not kept:
            return self.buffer(h).multiply(h, gate) + u
        stored = (h[:, :kept] * gate[:, :kept] >> GATE_BITS) + u[:, :kept]
        gate[:, :kept] = ONE
        new = self.buffer(h).multiply(h, gate) + u
        new[:, :kept] = to_fixed(to_float(stored, z.dtype))  # what the output, in its precision, can restore
        return new

    def back(self, h: Tensor, z: Tensor, u: Tensor, kept: int, stored: Tensor | None) -> Tensor:
        """The state before :meth:`step`; ``stored`` are its first units, where there are any."""
        gate = _whole(z)
        if kept:
            gate[:, :kept] = ONE
        old = self.buffer(h).unmultiply(h - to_fixed(u), gate)
        if kept:
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


def _checked(x: Tensor, states: list[list[Tensor]], weights: list[list[list[Tensor]]]) -> None:
    """Refuse what would leave the format: |h| grows by less than 1.001 a step, for |u| <= 1."""
    flat = [w for layer in weights for group in layer for w in group]
    largest = torch.stack([t.detach().abs().amax().double() for t in (x, *flat) if t.numel()]).amax()
    start = torch.stack([part.detach().abs().amax().double() for parts in states for part in parts]).amax()
    if not largest < SAFE:
        raise ValueError(f"inputs and weights must be finite and below {SAFE:g}: the largest is {float(largest):g}")
    if not start + 1.001 * len(x) < LARGEST:
        raise OverflowError(
            f"a state may leave the range of the fixed-point format, |h| < {LARGEST:g}: the largest at the start is "
            f"{float(start):g}, and there are {len(x)} steps"
        )


def stored_sequence(plan: Layers, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """What :class:`ReversibleSequence` computes, with the same gradients, by autograd that stores every state.

    Args:
        plan: What the sequence needs beside tensors.
        x: (T, B, inputs).
        tensors: First states, (B, n) each, and weights, as ``plan.split`` names them.

    Returns:
        Outputs (T, B, H), or (T, B, keep), and last states.
    """
    states, weights = plan.split(tensors)
    _checked(x, states, weights)
    fixed = [[to_fixed(part.detach()) for part in parts] for parts in states]
    floats = [
        [_exactly(part, to_float(h, x.dtype)) for part, h in zip(*layer, strict=True)]
        for layer in zip(states, fixed, strict=True)
    ]
    outputs = []
    for step, below in enumerate(x):
        for layer in range(plan.layers):
            h, f = fixed[layer], floats[layer]
            for update, w in zip(plan.cell.updates, weights[layer], strict=True):
                i = update.target
                z, u, _ = plan.gates(update, step, below, f, w)
                h[i] = plan.step(h[i], z.detach(), u.detach(), plan.kept(layer, i))
                f[i] = _exactly(z * f[i] + u, to_float(h[i], x.dtype))
            below = plan.seen(layer, f)
        outputs.append(below)
    return torch.stack(outputs), *(part for parts in floats for part in parts)


def _exactly(s: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of s."""
    return value + (s - s.detach())


class ReversibleSequence(torch.autograd.Function):
    """(outputs of the last layer, last states) from (inputs, first states, weights).

    The arguments are ``plan`` (:class:`Layers`), ``x`` (T, B, inputs), and the tensors that ``plan.split`` names;
    states have shape (B, n).
    """

    @staticmethod
    def forward(ctx: Any, plan: Layers, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, weights = plan.split(tensors)
        _checked(x, states, weights)
        fixed = [[to_fixed(part) for part in parts] for parts in states]
        plan.first = [list(parts) for parts in fixed]
        floats = [[to_float(part, x.dtype) for part in parts] for parts in fixed]
        outputs = []
        for step, below in enumerate(x):
            if plan.check:
                plan.past.append([list(parts) for parts in fixed])
            for layer in range(plan.layers):
                h, f = fixed[layer], floats[layer]
                for update, w in zip(plan.cell.updates, weights[layer], strict=True):
                    i = update.target
                    z, u, _ = plan.gates(update, step, below, f, w)
                    h[i] = plan.step(h[i], z, u, plan.kept(layer, i))
                    f[i] = to_float(h[i], x.dtype)
                below = plan.seen(layer, f)
            outputs.append(below)
        ctx.plan, plan.last = plan, fixed
        shown = torch.stack(outputs)
        ctx.save_for_backward(x, shown if plan.keep else None, *(w for layer in weights for g in layer for w in g))
        return shown, *(part for parts in floats for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_shown: Tensor, *d_states: Tensor) -> tuple[Any, ...]:
        plan, (x, shown, *flat) = ctx.plan, ctx.saved_tensors
        if plan.last is None:
            raise RuntimeError("a reversible sequence can be run backwards once: its buffer is used up on the way")
        if torch.is_autocast_enabled(x.device.type):
            raise RuntimeError("autocast may compute a gate otherwise on the way back: switch it off for backward()")
        fixed, plan.last = plan.last, None
        d_state, weights = plan.split((*d_states, *flat))
        _, totals = plan.split((*d_states, *(torch.zeros_like(w) for w in flat)))
        floats = [[to_float(part, x.dtype) for part in parts] for parts in fixed]
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        for step in reversed(range(len(x))):
            above = d_shown[step]  # (B, H) or (B, keep), the gradient at what the last layer shows
            for layer in reversed(range(plan.layers)):
                below = plan.seen(layer - 1, floats[layer - 1]) if layer else x[step]
                _receive(plan, layer, d_state[layer], above)
                d_below = None
                for k in reversed(range(len(plan.cell.updates))):
                    update, w = plan.cell.updates[k], weights[layer][k]
                    h, f, i = fixed[layer], floats[layer], update.target
                    z, u, found = plan.gates(update, step, below, f, w)
                    if kept := plan.kept(layer, i):
                        stored = to_fixed(shown[step - 1]) if step else plan.first[layer][i][:, :kept]
                    h[i] = plan.back(h[i], z, u, kept, stored if kept else None)
                    f[i] = to_float(h[i], x.dtype)
                    d = d_state[layer][i]  # s' = z s + u
                    d_z, d_u, d_state[layer][i] = d * f[i], d, d * z
                    if plan.alive is not None:
                        alive = plan.alive[step][:, None]
                        d_z, d_u = d_z * alive, d_u * alive
                    d_in, *d_reads = update.gradients(plan.bits, found, d_z, d_u, w, totals[layer][k])
                    for j, d in zip(update.reads, d_reads, strict=True):
                        d_state[layer][j] = d_state[layer][j] + d
                    d_below = d_in if d_below is None else d_below + d_in
                above = d_below if layer == 0 or plan.between is None else d_below * plan.between[layer - 1]
            if d_x is not None:
                d_x[step] = above
            if plan.check:
                plan.compare(step, fixed)
        pairs = [pair for first, now in zip(plan.first, fixed, strict=True) for pair in zip(first, now, strict=True)]
        same = all(torch.equal(first, now) for first, now in pairs)
        if not (same and all(buffer.is_empty() for buffer in plan.buffers.values())):
            raise ReversalError(
                "the sequence run backwards did not end at its first state: a gate was not computed as it was on the "
                "way forward (other threads or kernels, changed inputs, weights or masks); check=True finds the step"
            )
        gradients = [d for parts in d_state for d in parts] + [d for layer in totals for g in layer for d in g]
        return None, d_x, *gradients


def _receive(plan: Layers, layer: int, d_state: list[Tensor], above: Tensor) -> None:
    """Add the gradient at what a layer shows, (B, H) or (B, keep), to that of its state."""
    hidden = plan.cell.hidden
    if layer == plan.layers - 1 and plan.keep is not None:
        d = d_state[hidden[0]].clone()
        d[:, : plan.keep] += above
        d_state[hidden[0]] = d
        return
    for i, d in zip(hidden, above.chunk(len(hidden), 1), strict=True):
        d_state[i] = d_state[i] + d
