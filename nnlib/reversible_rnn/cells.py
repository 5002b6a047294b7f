"""Which recurrent cells can be run backwards? Those that change one half of their state at a time.

A cell is a list of updates s <- z s + u: z and u are computed from the input and from parts of the state other than s,
so that they can be computed again when s is to be restored. Each update has its derivatives beside it: they reuse what
the second computation has at hand.
Paper: arXiv 1810.10999, sections 2 and 3. Chapter: ``book/reversible_rnn.ipynb``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from nnlib.reversible_rnn.fixed_point import GATE_BITS, ONE


class Update(NamedTuple):
    """``s_target <- z s_target + u``, with ``(z, u, found) = gates(bits, x, *parts, *weights)``.

    ``parts`` are those of the state that it reads. ``gradients(bits, found, d_z, d_u, weights, totals)`` adds the
    gradients of the weights to ``totals`` and returns those of x and of the parts. ``rows`` are the numbers of outputs,
    in units of the half state n, of the linear maps: each has a weight (rows n, inputs + n) and a bias (rows n,).
    """

    target: int
    reads: tuple[int, ...]
    rows: tuple[int, ...]
    gates: Callable[..., tuple[Tensor, Tensor, tuple]]
    gradients: Callable[..., tuple[Tensor, ...]]


class Cell(NamedTuple):
    """The updates of a step in their order, and which parts of the state are seen from outside.

    ``hidden`` are the parts that make the output, ``memory`` those that make the LSTM's cell, ``names`` those of all.
    """

    updates: tuple[Update, ...]
    names: tuple[str, ...]
    hidden: tuple[int, ...]
    memory: tuple[int, ...] = ()


class _Rounded(torch.autograd.Function):
    """z as a multiple of 1/1024, at least 1/1024; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        return _rounded(z)

    @staticmethod
    def backward(ctx, d: Tensor) -> Tensor:
        return d


def _rounded(z: Tensor) -> Tensor:
    return (z * ONE).round_().clamp_(min=1).mul_(2.0**-GATE_BITS)


def least(bits: int | None) -> float:
    """The smallest gate that forgets at most this many bits, before rounding."""
    return 0.0 if bits is None else 2.0**-bits


def limited(s: Tensor, bits: int | None) -> Tensor:
    """A gate that forgets at most ``bits`` bits: z = 2^-bits + (1 - 2^-bits) s, rounded to a multiple of 1/1024.

    The gradient passes through the rounding unchanged. With ``bits`` None the limit is that of the format, 1/1024.

    Args:
        s: In [0, 1], a sigmoid; any shape.
        bits: 0 to 10, or None. With 0 the gate is 1: nothing is forgotten.

    Source: arXiv 1810.10999, section 3.4. Chapter: ``book/reversible_rnn.ipynb``.

    >>> limited(torch.tensor([0.0, 0.5, 1.0]), bits=1).tolist()
    [0.5, 0.75, 1.0]
    """
    z = (s * (1 - least(bits))).add_(least(bits))
    return _Rounded.apply(z) if z.requires_grad else _rounded(z)  # without a gradient, the operation alone is faster


def _gru(bits, x, other, W, b, U, c):
    """z, r = sigmoid(W [x; h'] + b);   g = tanh(U [x; r h'] + c);   h <- z h + (1 - z) g"""
    a = torch.cat([x, other], 1)  # (B, d + n)
    s = linear(a, W, b).sigmoid()  # (B, 2 n)
    gate, r = s.chunk(2, 1)
    e = torch.cat([x, r * other], 1)
    g = linear(e, U, c).tanh()  # (B, n)
    if bits == 0:  # nothing is forgotten: h <- h + (1 - sigmoid) g
        z, share = torch.ones_like(gate), 1 - gate
    else:
        z = limited(gate, bits)
        share = 1 - z
    return z, share * g, (a, e, s, r, g, share, other)


def _d_gru(bits, found, d_z, d_u, weights, totals):
    a, e, s, r, g, share, other = found
    W, _, U, _ = weights
    d_gate = -d_u * g if bits == 0 else (d_z - d_u * g) * (1 - least(bits))
    d_g = d_u * share * (1 - g * g)
    d_e = _add(totals[2:], d_g, e) @ U
    d_x, d_rh = d_e.tensor_split((e.shape[1] - g.shape[1],), 1)
    d_s = torch.cat([d_gate, d_rh * other], 1) * (s - s * s)
    d_a = _add(totals[:2], d_s, a) @ W
    d_x2, d_other = d_a.tensor_split((e.shape[1] - g.shape[1],), 1)
    return d_x + d_x2, d_other + d_rh * r


def _lstm_memory(bits, x, other, W, b):
    """z, f = sigmoid(...), g = tanh(...) of [x; h'];   c <- z c + f g"""
    a = torch.cat([x, other], 1)
    logits = linear(a, W, b)  # (B, 3 n)
    n = other.shape[1]
    s, g = logits[:, : 2 * n].sigmoid(), logits[:, 2 * n :].tanh()
    gate, f = s.chunk(2, 1)
    return limited(gate, bits), f * g, (a, s, f, g)


def _d_lstm_memory(bits, found, d_z, d_u, weights, totals):
    a, s, f, g = found
    d_s = torch.cat([d_z * (1 - least(bits)), d_u * g], 1) * (s - s * s)
    d_a = _add(totals, torch.cat([d_s, d_u * f * (1 - g * g)], 1), a) @ weights[0]
    return d_a.tensor_split((a.shape[1] - g.shape[1],), 1)


def _lstm_hidden(bits, x, other, memory, W, b):
    """p, o = sigmoid(...) of [x; h'];   h <- p h + o tanh(c)"""
    a = torch.cat([x, other], 1)
    s = linear(a, W, b).sigmoid()  # (B, 2 n)
    gate, o = s.chunk(2, 1)
    t = memory.tanh()
    return limited(gate, bits), o * t, (a, s, o, t)


def _d_lstm_hidden(bits, found, d_z, d_u, weights, totals):
    a, s, o, t = found
    d_s = torch.cat([d_z * (1 - least(bits)), d_u * t], 1) * (s - s * s)
    d_a = _add(totals, d_s, a) @ weights[0]
    return (*d_a.tensor_split((a.shape[1] - t.shape[1],), 1), d_u * o * (1 - t * t))


def _add(totals, d: Tensor, inputs: Tensor) -> Tensor:
    """Gradients of a weight (out, in) and its bias from those at the outputs d (B, out), which are returned."""
    weight, bias = totals
    weight.addmm_(d.T, inputs)
    bias += d.sum(0)
    return d


# h1 from (x, h2), then h2 from (x, new h1).
GRU = Cell(
    updates=(Update(0, (1,), (2, 1), _gru, _d_gru), Update(1, (0,), (2, 1), _gru, _d_gru)),
    names=("h1", "h2"),
    hidden=(0, 1),
)
# c1 and h1 from (x, h2), then c2 and h2 from (x, new h1).
LSTM = Cell(
    updates=(
        Update(1, (2,), (3,), _lstm_memory, _d_lstm_memory),
        Update(0, (2, 1), (2,), _lstm_hidden, _d_lstm_hidden),
        Update(3, (0,), (3,), _lstm_memory, _d_lstm_memory),
        Update(2, (0, 3), (2,), _lstm_hidden, _d_lstm_hidden),
    ),
    names=("h1", "c1", "h2", "c2"),
    hidden=(0, 2),
    memory=(1, 3),
)
