"""The models of the chapter, their texts, and how they are trained.

Paper: arXiv 1810.10999, section 5. Chapter: ``book/reversible_rnn.ipynb``.
"""

from dataclasses import dataclass, field
from typing import Any

from nnlib.training import Dataset
from tenpapers.data import load, remember


@dataclass(frozen=True)
class Size:
    """A model and how it is trained.

    Args:
        book: ``pride_prejudice`` or ``kjv``.
        tokens: ``characters`` or ``words``.
        vocabulary: Of the book; None for all that occurs twice.
        model: Of :class:`LanguageModel`.
        steps: Windows to train on.
        batch_size: B.
        window: T of training.
        lr: Of Adam, or of SGD; a kind in ``SHARES`` gets a share of it.
        adam: False trains by SGD, whose learning rate falls where the perplexity on held-out text stops falling.
        clip: Largest norm of a gradient.
    """

    book: str
    tokens: str
    vocabulary: int | None
    model: dict[str, Any]
    steps: int
    batch_size: int
    window: int
    lr: float = 0.02
    adam: bool = True
    clip: float = 1.0


# Larger shares made RevLSTM diverge, smaller ones learn slowly (validation text of Pride and Prejudice, seed 100).
SHARES = {"RevLSTM": 0.2}
_CHARACTERS = {"hidden_size": 96, "embedding_size": 32}
_WORDS = {"hidden_size": 128, "tied": True, "dropout": 0.2}
# The paper's sizes. Its weight decay and random lengths of windows are not here, nor is its smaller last layer.
_PAPER = {"hidden_size": 1150, "embedding_size": 650, "num_layers": 2, "dropout": 0.4, "weight_drop": 0.5}
SIZES = {
    "small": Size("pride_prejudice", "characters", None, {"hidden_size": 64, "embedding_size": 32}, 80, 64, 20),
    "Pride and Prejudice, characters": Size("pride_prejudice", "characters", None, _CHARACTERS, 2000, 128, 24),
    "King James Bible, characters": Size("kjv", "characters", None, _CHARACTERS, 2000, 128, 24),
    "Pride and Prejudice, words": Size("pride_prejudice", "words", 1000, _WORDS, 600, 64, 24, lr=0.01),
    "paper": Size("kjv", "words", None, _PAPER, 200_000, 20, 70, lr=20.0, adam=False, clip=0.1),
}


@remember(maxsize=4)
def book(size: str) -> Dataset:
    """The text of a size; every caller gets the same.

    Raises:
        ValueError: for a size that ``SIZES`` has not.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}: got {size!r}")
    return load(SIZES[size].book, tokens=SIZES[size].tokens, vocabulary=SIZES[size].vocabulary)


@dataclass(frozen=True)
class Pairs:
    """A translator and how it is trained.

    Args:
        vocabulary: Of both languages; None for all words that occur twice.
        model: Of :class:`Translator`.
        steps: Of Adam.
        batch_size: B.
        lr: Of Adam; it falls in a straight line to a tenth.
        clip: Largest norm of a gradient.
    """

    vocabulary: int | None
    steps: int
    lr: float
    model: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 64
    clip: float = 1.0


PAIRS = {
    "small": Pairs(500, 20, 0.01, {"hidden_size": 32, "embedding_size": 16, "width": 4}, 16),
    "laptop": Pairs(1000, 300, 0.015, {"hidden_size": 96, "embedding_size": 64, "width": 12}, 128),
    # The paper's for Multi30k: 300 units, a slice of 20.
    "paper": Pairs(None, 20_000, 0.002, {"hidden_size": 300, "embedding_size": 300, "width": 20, "dropout": 0.4}),
}


@remember(maxsize=2)
def pairs(size: str) -> Dataset:
    """The sentences of a size; every caller gets the same."""
    if size not in PAIRS:
        raise ValueError(f"size must be one of {', '.join(PAIRS)}: got {size!r}")
    return load("english_spanish", vocabulary=PAIRS[size].vocabulary)
