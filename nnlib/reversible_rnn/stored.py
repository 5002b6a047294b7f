"""The same sequence with every state stored, as autograd does: what running backwards is compared with.

Chapter: ``book/reversible_rnn.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.reversible_rnn.fixed_point import fixed_of, float_of
from nnlib.reversible_rnn.plan import Layers, checked


def stored_sequence(plan: Layers, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    """What ``ReversibleSequence`` computes, with the same gradients, by autograd that stores every state.

    Args:
        plan: What the sequence needs beside tensors.
        x: (T, B, inputs).
        tensors: First states, (B, n) each, and weights, as ``plan.split`` names them.

    Returns:
        Outputs (T, B, H), or (T, B, keep), and last states.
    """
    states, weights = plan.split(tensors)
    checked(x, states, weights)
    fixed = [[fixed_of(part.detach()) for part in parts] for parts in states]
    floats = [
        [_exactly(part, float_of(h, x.dtype)) for part, h in zip(*layer, strict=True)]
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
                f[i] = _exactly(z * f[i] + u, float_of(h[i], x.dtype))
            below = plan.seen(layer, f)
        outputs.append(below)
    return torch.stack(outputs), *(part for parts in floats for part in parts)


def _exactly(s: Tensor, value: Tensor) -> Tensor:
    """The value, with the gradient of s."""
    return value + (s - s.detach())
