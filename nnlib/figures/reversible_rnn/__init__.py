"""Figures of the chapter on reversible recurrent networks; each is a pure function of what its controls say.

Chapter: ``book/reversible_rnn.ipynb``.
"""

from nnlib.figures.reversible_rnn.bits import BUFFERS, GATES, STARTS, bit_by_bit
from nnlib.figures.reversible_rnn.language import BOOKS, WAYS, trade_off
from nnlib.figures.reversible_rnn.memory import memory, words
from nnlib.figures.reversible_rnn.naive import naive_reversal, reversal_errors
from nnlib.figures.reversible_rnn.repeat import repeat

__all__ = [
    "BOOKS",
    "BUFFERS",
    "GATES",
    "STARTS",
    "WAYS",
    "bit_by_bit",
    "memory",
    "naive_reversal",
    "repeat",
    "reversal_errors",
    "trade_off",
    "words",
]
