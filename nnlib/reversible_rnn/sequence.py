"""A whole sequence as one operation that keeps its last state and a buffer of forgotten bits, and nothing else.

Backwards, each update is computed once more: its gates undo the update, and the state so restored is what the gradient
needs. So a step costs one forward pass on the way forward, and one forward and one backward pass on the way back.
Paper: arXiv 1810.10999, section 3. Chapter: ``book/reversible_rnn.ipynb``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nnlib.reversible_rnn.fixed_point import fixed_of, float_of
from nnlib.reversible_rnn.plan import Layers, ReversalError, checked


class ReversibleSequence(torch.autograd.Function):
    """(outputs of the last layer, last states) from (inputs, first states, weights).

    The arguments are ``plan`` (:class:`Layers`), ``x`` (T, B, inputs), and the tensors that ``plan.split`` names;
    states have shape (B, n).
    """

    @staticmethod
    def forward(ctx: Any, plan: Layers, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, weights = plan.split(tensors)
        checked(x, states, weights)
        fixed = [[fixed_of(part) for part in parts] for parts in states]
        plan.first = [list(parts) for parts in fixed]
        floats = [[float_of(part, x.dtype) for part in parts] for parts in fixed]
        shown = None
        for step, below in enumerate(x):
            if plan.check:
                plan.past.append([list(parts) for parts in fixed])
            for layer in range(plan.layers):
                h, f = fixed[layer], floats[layer]
                for update, w in zip(plan.cell.updates, weights[layer], strict=True):
                    i = update.target
                    z, u, _ = plan.gates(update, step, below, f, w)
                    h[i] = plan.step(h[i], z, u, plan.kept(layer, i))
                    f[i] = float_of(h[i], x.dtype)
                below = plan.seen(layer, f)
            shown = below.new_empty(len(x), *below.shape) if shown is None else shown  # once: a list would be a second
            shown[step] = below
        ctx.plan, plan.last = plan, fixed
        assert shown is not None  # a sequence has a step
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
        floats = [[float_of(part, x.dtype) for part in parts] for parts in fixed]
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        above: Any  # gradients on their way down
        d_below: Any
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
                        stored = fixed_of(shown[step - 1]) if step else plan.first[layer][i][:, :kept]
                    h[i] = plan.back(h[i], z, u, kept, stored if kept else None)
                    f[i] = float_of(h[i], x.dtype)
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
