"""The experiments of the chapter on language: train a model on a book, measure it, and count what it had to keep.

Paper: arXiv 1810.10999, section 5.1. Chapter: ``book/reversible_rnn.ipynb``.
"""

import copy
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nnlib.modes import evaluating
from nnlib.reversible_rnn.language_model import LanguageModel
from nnlib.reversible_rnn.memory import held_bytes, paper_memory
from nnlib.training import Dataset
from tenpapers.data import load
from tenpapers.reversible_rnn.evaluate import nats, train_language_model

MEMORY_STEPS = 70  # T at which memory is measured, as in the paper
MEMORY_BATCH = 20


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


@lru_cache(maxsize=4)
def book(size: str) -> Dataset:
    """The text of a size; every caller gets the same."""
    return load(SIZES[size].book, tokens=SIZES[size].tokens, vocabulary=SIZES[size].vocabulary)


def trained(
    size: str,
    kind: str,
    bits: int | None,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    steps: int | None = None,
) -> tuple[LanguageModel, Dataset]:
    """A trained language model and its text.

    Args:
        size: One of ``SIZES``.
        kind: One of ``KINDS``.
        bits: The most bits that a unit forgets in a step.
        seed: Of the weights and the dropout masks.
        dtype: ``float32`` or ``float64``.
        device: Where to train.
        steps: In place of the size's own.

    Raises:
        ValueError: for a size that ``SIZES`` has not.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}: got {size!r}")
    s, data = SIZES[size], book(size).to(device)
    options = {"bits": bits, "seed": seed, "device": device, "dtype": getattr(torch, dtype)}
    model = LanguageModel(len(data.info["vocabulary"]), kind, **s.model, **options)
    optimizer = (torch.optim.Adam if s.adam else torch.optim.SGD)(model.parameters(), lr=s.lr * SHARES.get(kind, 1.0))
    settings = {"batch_size": s.batch_size, "window": s.window, "clip": s.clip, "seed": seed, "decay": s.adam}
    settings["carry"] = bits != 0
    settings["validation"] = None if s.adam else data.validation
    train_language_model(model, data.train, optimizer, steps=s.steps if steps is None else steps, **settings)
    return model.eval(), data


def language(size: str, kind: str, bits: int | None, seed: int = 0, **where: Any) -> dict[str, Any]:
    """Train a language model, measure it on the test text, and count what one pass over 70 steps leaves behind.

    The state is carried from window to window, but not where nothing is forgotten: there it would grow for ever.

    Args:
        size: One of ``SIZES``.
        kind: One of ``KINDS``.
        bits: The most bits that a unit forgets in a step; None for no limit, and for torch's own kinds.
        seed: Of the weights and the dropout masks.
        where: ``dtype``, ``device`` and ``steps`` of :func:`trained`.

    Returns:
        ``perplexity`` and ``bits a token`` of the test text, and what :func:`memory` returns.
    """
    model, data = trained(size, kind, bits, seed, **where)
    loss = nats(model, data.test, window=SIZES[size].window, carry=bits != 0)
    tokens = data.test.x[: MEMORY_STEPS * MEMORY_BATCH].view(MEMORY_BATCH, MEMORY_STEPS).T
    return {"perplexity": math.exp(loss), "bits a token": loss / math.log(2), **memory(model, tokens)}


def memory(model: LanguageModel, tokens: Tensor) -> dict[str, float | None]:
    """What the recurrent network of a model keeps of one forward pass, in four ways, as multiples of saving.

    Args:
        model: In any mode; measured in evaluation mode.
        tokens: (T, B).

    Returns:
        ``forgotten``, bits a number of the state and step; ``paper``, states over buffers as the paper counts;
        ``ideal``, states over bits forgotten; ``held``, bytes that the same cell under autograd leaves for its backward
        pass, over those that this one leaves; ``with output``, the same with the output on both sides. None for
        torch's own kinds, and where nothing was forgotten.
    """
    names = ("forgotten", "paper", "ideal", "held", "with output")
    if not hasattr(model.rnn, "bits"):
        return dict.fromkeys(names)
    with evaluating(model):
        x = model.inputs(tokens).detach()
        counted = paper_memory(model.rnn, x)
        twin = copy.deepcopy(model.rnn)
        twin.reversible = False
        ours, theirs = held_bytes(model.rnn, x), held_bytes(twin, x)
    values = (
        32 * counted.ideal / counted.states,
        counted.ratio,
        counted.states / counted.ideal if counted.ideal else None,
        theirs.activations / ours.activations,
        theirs.with_output / ours.with_output,
    )
    return dict(zip(names, values, strict=True))
