"""Which recurrent cells can be run backwards? Those that change one half of their state at a time.

A cell is a list of updates s <- z s + u: z and u are computed from the input and from parts of the state other than s,
so that they can be computed again when s is to be restored.
Paper: arXiv 1810.10999, sections 2 and 3. Chapter: ``book/reversible_rnn.ipynb``.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from nnlib.reversible_rnn.fixed_point import GATE_BITS, to_gate


class Update(NamedTuple):
    """s_target <- z s_target + u, with (z, u) = gates(bits, x, *parts that it reads, *weights).

    ``rows`` are the numbers of outputs, in units of the half state n, of its linear maps: each has a weight
    (rows n, inputs + n) and a bias (rows n,).
    """

    target: int
    reads: tuple[int, ...]
    rows: tuple[int, ...]
    gates: Callable[..., tuple[Tensor, Tensor]]


class Cell(NamedTuple):
    """The updates of a step in their order, and which parts of the state are seen from outside.

    ``hidden`` are the parts that make the output, ``memory`` those that make the LSTM's cell.
    """

    updates: tuple[Update, ...]
    hidden: tuple[int, ...]
    memory: tuple[int, ...] = ()


def limited(logits: Tensor, bits: int | None) -> Tensor:
    """A gate that forgets at most ``bits`` bits: z = 2^-bits + (1 - 2^-bits) sigmoid, rounded to a multiple of 1/1024.

    The gradient passes through the rounding unchanged. With ``bits`` None the limit is that of the format, 1/1024.

    Args:
        logits: Any shape.
        bits: 0 to 10, or None. With 0 the gate is 1: nothing is forgotten.

    Source: arXiv 1810.10999, section 3.4. Chapter: ``book/reversible_rnn.ipynb``.

    >>> limited(torch.tensor([-100.0, 0.0, 100.0]), bits=1).tolist()
    [0.5, 0.75, 1.0]
    """
    least = 0.0 if bits is None else 2.0**-bits
    z = least + (1 - least) * logits.sigmoid()
    return z + (to_gate(z.detach()).to(z.dtype) * 2.0**-GATE_BITS - z.detach())


def _gru(bits, x, other, W, b, U, c) -> tuple[Tensor, Tensor]:
    """z, r = sigmoid(W [x; h'] + b);   g = tanh(U [x; r h'] + c);   h <- z h + (1 - z) g"""
    gate, r = linear(torch.cat([x, other], 1), W, b).chunk(2, 1)  # (B, n) each
    g = linear(torch.cat([x, r.sigmoid() * other], 1), U, c).tanh()
    if bits == 0:  # nothing is forgotten: h <- h + (1 - sigmoid) g
        return torch.ones_like(gate), (1 - gate.sigmoid()) * g
    z = limited(gate, bits)
    return z, (1 - z) * g


def _lstm_memory(bits, x, other, W, b) -> tuple[Tensor, Tensor]:
    """z, f = sigmoid(...), g = tanh(...) of [x; h'];   c <- z c + f g"""
    gate, f, g = linear(torch.cat([x, other], 1), W, b).chunk(3, 1)
    return limited(gate, bits), f.sigmoid() * g.tanh()


def _lstm_hidden(bits, x, other, memory, W, b) -> tuple[Tensor, Tensor]:
    """p, o = sigmoid(...) of [x; h'];   h <- p h + o tanh(c)"""
    gate, o = linear(torch.cat([x, other], 1), W, b).chunk(2, 1)
    return limited(gate, bits), o.sigmoid() * memory.tanh()


# h1 from (x, h2), then h2 from (x, new h1).
GRU = Cell(
    updates=(Update(0, (1,), (2, 1), _gru), Update(1, (0,), (2, 1), _gru)),
    hidden=(0, 1),
)
# Parts h1, c1, h2, c2: c1 and h1 from (x, h2), then c2 and h2 from (x, new h1).
LSTM = Cell(
    updates=(
        Update(1, (2,), (3,), _lstm_memory),
        Update(0, (2, 1), (2,), _lstm_hidden),
        Update(3, (0,), (3,), _lstm_memory),
        Update(2, (0, 3), (2,), _lstm_hidden),
    ),
    hidden=(0, 2),
    memory=(1, 3),
)
