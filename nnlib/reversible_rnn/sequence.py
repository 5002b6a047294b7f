"""A whole sequence as one operation that keeps its last state and a buffer of forgotten bits, and nothing else.

Backwards, each update is computed once more, with gradients: its gates undo the update, and the state so restored is
what the gradient needs. So a step costs one forward pass on the way forward, and one forward and one backward pass on
the way back.
Paper: arXiv 1810.10999, section 3. Chapter: ``book/reversible_rnn.ipynb``.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnlib.reversible_rnn.cells import Cell
from nnlib.reversible_rnn.fixed_point import (
    GATE_BITS,
    LARGEST,
    ONE,
    InformationBuffer,
    to_fixed,
    to_float,
    to_gate,
)


class ReversalError(ArithmeticError):
    """The sequence run backwards did not end where it began: a gate was not computed as it was on the way forward."""


@dataclass
class Layers:
    """What a sequence operation needs beside tensors that get gradients.

    Args:
        cell: The kind of cell.
        bits: The most bits that a unit forgets in a step: 0 to 10, or None for the format's 10.
        layers: Their number L.
        between: Dropout masks between a layer and the next, (B, H) each, or None.
        alive: Which examples have a step: (T, B), bool, or None for all.
        buffers: Filled in by the way forward: one for each width.
        first: States h* at the start, by layer and part; also filled in.
        last: States h* at the end; used up by the way back.
    """

    cell: Cell
    bits: int | None
    layers: int
    between: list[Tensor] | None = None
    alive: Tensor | None = None
    buffers: dict[int, InformationBuffer] = field(default_factory=dict)
    first: list[list[Tensor]] | None = None
    last: list[list[Tensor]] | None = None

    def split(self, tensors: tuple[Tensor, ...]) -> tuple[list[list[Tensor]], list[list[list[Tensor]]]]:
        """States by layer and part, and weights by layer and update, from the flat list of both."""
        count = 1 + max(update.target for update in self.cell.updates)
        flat = iter(tensors)
        states = [[next(flat) for _ in range(count)] for _ in range(self.layers)]
        sizes = [2 * len(update.rows) for update in self.cell.updates]
        weights = [[[next(flat) for _ in range(size)] for size in sizes] for _ in range(self.layers)]
        return states, weights

    def tensors(self) -> list[Tensor]:
        """What waits for the way back, beside inputs and weights: first and last states, and the buffers."""
        states = [part for layers in (self.first, self.last) for parts in layers for part in parts]
        return states + [words for buffer in self.buffers.values() for words in (buffer.words, *buffer.saved)]

    def buffer(self, h: Tensor) -> InformationBuffer:
        """The buffer for states of this width."""
        width = h.shape[1]
        if width not in self.buffers:
            self.buffers[width] = InformationBuffer(h, GATE_BITS if self.bits is None else self.bits)
        return self.buffers[width]

    def gates(self, update, step: int, x: Tensor, parts: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """z and u of an update, (B, n) each; for examples that have ended 1 and 0, which change nothing."""
        z, u = update.gates(self.bits, x, *(parts[i] for i in update.reads), *weights)
        if self.alive is not None:
            alive = self.alive[step][:, None]
            z, u = torch.where(alive, z, torch.ones_like(z)), torch.where(alive, u, torch.zeros_like(u))
        return z, u

    def seen(self, layer: int, floats: list[Tensor]) -> Tensor:
        """What the layer above is given: (B, H)."""
        out = torch.cat([floats[i] for i in self.cell.hidden], 1)
        return out if self.between is None or layer == self.layers - 1 else out * self.between[layer]


def stored_sequence(plan: Layers, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """What :class:`ReversibleSequence` computes, with the same gradients, by autograd that stores every state.

    Args:
        plan: What the sequence needs beside tensors.
        x: (T, B, inputs).
        tensors: First states, (B, n) each, and weights, as ``plan.split`` names them.

    Returns:
        Outputs (T, B, H) and last states.
    """
    states, weights = plan.split(tensors)
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
                z, u = plan.gates(update, step, below, f, w)
                h[i] = plan.buffer(h[i]).multiply(h[i], to_gate(z.detach())) + to_fixed(u.detach())
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
        fixed = [[to_fixed(part) for part in parts] for parts in states]
        plan.first = [list(parts) for parts in fixed]
        floats = [[to_float(part, x.dtype) for part in parts] for parts in fixed]
        outputs, largest = [], x.new_zeros((), dtype=torch.int64)
        for step, below in enumerate(x):
            for layer in range(plan.layers):
                h, f = fixed[layer], floats[layer]
                for update, w in zip(plan.cell.updates, weights[layer], strict=True):
                    i = update.target
                    z, u = plan.gates(update, step, below, f, w)
                    h[i] = plan.buffer(h[i]).multiply(h[i], to_gate(z)) + to_fixed(u)
                    f[i] = to_float(h[i], x.dtype)
                    largest = torch.maximum(largest, h[i].abs().amax())
                below = plan.seen(layer, f)
            outputs.append(below)
        if int(largest) >= LARGEST or not outputs[-1].isfinite().all():
            raise OverflowError("a state left the range of the fixed-point format, |h| < 2^29: lower the learning rate")
        ctx.plan, plan.last = plan, fixed
        ctx.save_for_backward(x, *(w for layer in weights for group in layer for w in group))
        return torch.stack(outputs), *(part for parts in floats for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, *d_states: Tensor) -> tuple[Any, ...]:
        plan, (x, *flat) = ctx.plan, ctx.saved_tensors
        if plan.last is None:
            raise RuntimeError("a reversible sequence can be run backwards once: its buffer is used up on the way")
        fixed, plan.last = plan.last, None
        d_state, _ = plan.split((*(d.clone() for d in d_states), *flat))
        _, weights = plan.split((*d_states, *flat))
        d_weights = [[[torch.zeros_like(w) for w in group] for group in layer] for layer in weights]
        floats = [[to_float(part, x.dtype) for part in parts] for parts in fixed]
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        for step in reversed(range(len(x))):
            above = d_outputs[step]  # (B, H), the gradient at what a layer shows
            for layer in reversed(range(plan.layers)):
                below = plan.seen(layer - 1, floats[layer - 1]) if layer else x[step]
                for i, d in zip(plan.cell.hidden, above.chunk(len(plan.cell.hidden), 1), strict=True):
                    d_state[layer][i] = d_state[layer][i] + d
                d_below = torch.zeros_like(below)
                for k in reversed(range(len(plan.cell.updates))):
                    found = _undo(plan, k, step, below, fixed[layer], floats[layer], d_state[layer], weights[layer][k])
                    d_below = d_below + found[0]
                    for total, d in zip(d_weights[layer][k], found[1:], strict=True):
                        total += d
                above = d_below if layer == 0 or plan.between is None else d_below * plan.between[layer - 1]
            if d_x is not None:
                d_x[step] = above
        pairs = [pair for first, now in zip(plan.first, fixed, strict=True) for pair in zip(first, now, strict=True)]
        same = all(torch.equal(first, now) for first, now in pairs)
        if not (same and all(buffer.is_empty() for buffer in plan.buffers.values())):
            raise ReversalError(
                "the sequence run backwards did not end at its first state: a gate was not computed as it was on the "
                "way forward (other threads or kernels, changed weights or masks)"
            )
        gradients = [d for parts in d_state for d in parts] + [d for layer in d_weights for g in layer for d in g]
        return None, d_x, *gradients


def _undo(plan, k, step, below, h, f, d_state, weights) -> list[Tensor]:
    """Undo an update in place, and pass the gradient through it: gradients at the input below and at the weights."""
    update = plan.cell.updates[k]
    i = update.target
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_() for t in (below, *(f[j] for j in update.reads), *weights)]
        parts = dict(zip(update.reads, leaves[1:], strict=False))
        z, u = plan.gates(update, step, leaves[0], parts, leaves[1 + len(update.reads) :])
    gate = to_gate(z.detach())
    h[i] = plan.buffer(h[i]).unmultiply(h[i] - to_fixed(u.detach()), gate)
    f[i] = to_float(h[i], below.dtype)
    d = d_state[i]  # s' = z s + u
    ends = [(end, g) for end, g in ((z, d * f[i]), (u, d)) if end.requires_grad]
    found = torch.autograd.grad([e for e, _ in ends], leaves, [g for _, g in ends], materialize_grads=True)
    d_state[i] = d * (gate.to(d.dtype) / ONE)
    for j, g in zip(update.reads, found[1:], strict=False):
        d_state[j] = d_state[j] + g
    return [found[0], *found[1 + len(update.reads) :]]
