"""Calls of ``nnlib.reversible_rnn``."""

import torch

from nnlib.reversible_rnn import LanguageModel, RevGRU, RevLSTM, Stored, Translator
from tests.oracles import reversible_rnn as oracle

F64 = torch.float64
WHERE = {"seed": 0, "device": torch.device("cpu"), "dtype": F64}
REVERSIBLE = {"bits": 3, "batch_first": False, "dropout": 0.1, "weight_drop": 0.1, "keep": 1, "reversible": True}
H, Z, B = torch.tensor([-5000, 700]), torch.tensor([512, 1000]), torch.tensor([3, 2**50])
X = torch.linspace(-1, 1, 24, dtype=F64).view(4, 2, 3)  # (T, B, d)
TOKENS = torch.tensor([[0, 1], [2, 3], [4, 0]])  # (T, B)
SOURCE, TARGET = torch.tensor([[5, 6, 3], [4, 3, 0]]), torch.tensor([[2, 5], [2, 4]])


def gru() -> RevGRU:
    return RevGRU(3, 4, bits=3, dtype=F64)


def stored() -> Stored:
    return Stored("LSTM", 3, 4, dtype=F64)


def translator() -> Translator:
    return Translator(9, 7, "RevGRU", "slice + embedding", 4, 3, width=2, bits=3, dtype=F64).eval()


def whole_numbers(of, **named) -> tuple[torch.Tensor, ...]:
    """A function of Python's whole numbers, element by element."""
    shape = next(iter(named.values())).shape
    rows = [of(*row) for row in zip(*(t.flatten().tolist() for t in named.values()), strict=True)]
    return tuple(torch.tensor(part).view(shape) for part in zip(*rows, strict=True))


CALLS = {
    "to_fixed": lambda: {"h": torch.tensor([1.0, -0.5], dtype=F64)},
    "to_float": lambda: {"h": H, "dtype": F64},
    "multiply": lambda: {"h": H, "z": Z, "buffer": B},
    "unmultiply": lambda: {"h": H, "z": Z, "buffer": B},
    "InformationBuffer": lambda: {"like": H, "bits": 2, "count": True},
    "RevGRU": lambda: {"input_size": 3, "hidden_size": 4, "num_layers": 2, "check": False, **REVERSIBLE, **WHERE},
    "RevGRU.forward": lambda: {"self": gru(), "input": X, "hx": X.new_ones(1, 2, 4), "generator": torch.Generator()},
    "RevLSTM": lambda: {"input_size": 3, "hidden_size": 4, "num_layers": 2, "check": False, **REVERSIBLE, **WHERE},
    "RevLSTM.forward": lambda: {
        "self": RevLSTM(3, 4, bits=3, dtype=F64), "input": X, "hx": (X.new_ones(1, 2, 4), X.new_ones(1, 2, 4)),
    },
    "recurrent": lambda: {
        "kind": "RevLSTM", "input_size": 3, "hidden_size": 4, "num_layers": 2, "bits": 3, "keep": 1, "reversible": True,
        "dropout": 0.1, **WHERE,
    },
    "Stored": lambda: {
        "kind": "LSTM", "input_size": 3, "hidden_size": 4, "num_layers": 2, "dropout": 0.1, "weight_drop": 0.1, **WHERE,
    },
    "LanguageModel": lambda: {
        "vocabulary": 5, "kind": "RevGRU", "hidden_size": 4, "embedding_size": 4, "num_layers": 1, "bits": 3,
        "tied": True, "dropout": 0.1, "weight_drop": 0.1, "reversible": True, **WHERE,
    },
    "LanguageModel.forward": lambda: {
        "self": LanguageModel(5, "RevGRU", 4, dtype=F64), "tokens": TOKENS, "state": X.new_ones(1, 2, 4),
    },
    "Translator": lambda: {
        "source": 9, "target": 7, "kind": "RevGRU", "context": "slice", "hidden_size": 4, "embedding_size": 3,
        "num_layers": 1, "width": 2, "bits": 3, "dropout": 0.1, "reversible": True, **WHERE,
    },
    "Translator.forward": lambda: {"self": translator(), "x": SOURCE, "y": TARGET},
    "translate": lambda: {"model": translator(), "x": SOURCE, "begin": 2, "end": 3, "longest": 3},
    "attend": lambda: {"queries": X, "context": X[:3], "alive": torch.ones(3, 2, dtype=torch.bool)},
    "gradient_cosine": lambda: {
        "model": LanguageModel(5, "RevGRU", 4, dtype=F64), "tokens": TOKENS, "targets": TOKENS, "seed": 0,
    },
    "paper_memory": lambda: {"rnn": gru(), "input": X},
    "held_bytes": lambda: {"rnn": gru(), "input": X},
}  # fmt: skip
ELSEWHERE: dict[str, str] = {}
ORACLES = {
    "to_fixed": lambda h: (h * 2**23).round().long(),
    "to_float": lambda h, dtype: h.to(dtype) / 2**23,
    "multiply": lambda h, z, buffer: whole_numbers(oracle.multiply, h=h, z=z, buffer=buffer),
    "unmultiply": lambda h, z, buffer: whole_numbers(oracle.unmultiply, h=h, z=z, buffer=buffer),
}
