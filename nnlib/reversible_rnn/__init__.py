"""Recurrent networks that restore their past from their present, and the bits that they must keep to do so.

Paper: MacKay, Vicol, Ba and Grosse, Reversible Recurrent Neural Networks (NeurIPS 2018, arXiv 1810.10999).
Chapter: book/reversible_rnn.ipynb.

fixed_point.py  states and gates as whole numbers, the multiplication that can be undone, the buffer of forgotten bits
cells.py        RevGRU and RevLSTM as lists of reversible updates
sequence.py     a whole sequence as one autograd operation
rnn.py          RevGRU and RevLSTM with the interface of torch.nn.GRU and torch.nn.LSTM
memory.py       what is kept for the backward pass, as the paper counts and as bytes that are held
"""

from nnlib.reversible_rnn.cells import GRU, LSTM, Cell, Update, limited
from nnlib.reversible_rnn.fixed_point import (
    InformationBuffer,
    multiply,
    to_fixed,
    to_float,
    to_gate,
    unmultiply,
)
from nnlib.reversible_rnn.memory import HeldBytes, PaperMemory, held_bytes, paper_memory
from nnlib.reversible_rnn.rnn import RevGRU, RevLSTM
from nnlib.reversible_rnn.sequence import ReversalError

__all__ = [
    "GRU",
    "LSTM",
    "Cell",
    "HeldBytes",
    "InformationBuffer",
    "PaperMemory",
    "RevGRU",
    "RevLSTM",
    "ReversalError",
    "Update",
    "held_bytes",
    "limited",
    "multiply",
    "paper_memory",
    "to_fixed",
    "to_float",
    "to_gate",
    "unmultiply",
]
