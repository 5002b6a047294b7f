"""Recurrent networks that restore their past from their present, and the bits that they must keep to do so.

Paper: MacKay, Vicol, Ba and Grosse, Reversible Recurrent Neural Networks (NeurIPS 2018, arXiv 1810.10999).
Chapter: book/reversible_rnn.ipynb.

fixed_point.py     states and gates as whole numbers, a multiplication that can be undone, the forgotten bits
cells.py           RevGRU and RevLSTM as lists of reversible updates
plan.py            one update of a state, forward and back
sequence.py        a whole sequence as one autograd operation that runs backwards
stored.py          the same by autograd that stores every state
rnn.py             RevGRU and RevLSTM with the interface of torch.nn.GRU and torch.nn.LSTM
memory.py          what is kept for the backward pass, as the paper counts and as bytes that are held
language_model.py  the same language model around RevGRU, RevLSTM, GRU and LSTM
translation.py     encoder and decoder with attention to states, a slice of them, or words
check.py           the angle between gradients run backwards and those of autograd
"""

from nnlib.reversible_rnn.cells import GRU, LSTM, Cell, Update
from nnlib.reversible_rnn.check import gradient_cosine
from nnlib.reversible_rnn.fixed_point import (
    InformationBuffer,
    multiply,
    to_fixed,
    to_float,
    unmultiply,
)
from nnlib.reversible_rnn.language_model import KINDS, LanguageModel, Stored, recurrent
from nnlib.reversible_rnn.memory import HeldBytes, PaperMemory, held_bytes, paper_memory
from nnlib.reversible_rnn.plan import ReversalError
from nnlib.reversible_rnn.rnn import RevGRU, RevLSTM
from nnlib.reversible_rnn.translation import CONTEXTS, Translator, attend, translate

__all__ = [
    "CONTEXTS",
    "GRU",
    "KINDS",
    "LSTM",
    "Cell",
    "HeldBytes",
    "InformationBuffer",
    "LanguageModel",
    "PaperMemory",
    "RevGRU",
    "RevLSTM",
    "ReversalError",
    "Stored",
    "Translator",
    "Update",
    "attend",
    "gradient_cosine",
    "held_bytes",
    "multiply",
    "paper_memory",
    "recurrent",
    "to_fixed",
    "to_float",
    "translate",
    "unmultiply",
]
