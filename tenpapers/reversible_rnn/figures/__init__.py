"""Figures of the chapter on reversible recurrent networks; each is a pure function of what its controls say.

Chapter: ``book/reversible_rnn.ipynb``.
"""

from tenpapers.reversible_rnn.figures.bits import BUFFERS, GATES, STARTS, bit_by_bit
from tenpapers.reversible_rnn.figures.language import BOOKS, WAYS, trade_off
from tenpapers.reversible_rnn.figures.memory import memory, words
from tenpapers.reversible_rnn.figures.naive import naive_reversal
from tenpapers.reversible_rnn.figures.repeat import repeat

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
    "trade_off",
    "words",
]
