"""The experiments of the chapter on language: train a model on a book, measure it, and count what it had to keep.

Paper: arXiv 1810.10999, section 5.1. Chapter: ``book/reversible_rnn.ipynb``.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from nnlib import training
from nnlib.modes import evaluating
from nnlib.reversible_rnn.language_model import LanguageModel, Stored
from nnlib.reversible_rnn.memory import held_bytes, paper_memory
from nnlib.training import Dataset
from tenpapers.reversible_rnn.evaluate import nats, train_language_model
from tenpapers.reversible_rnn.workloads import SHARES, SIZES, book

MEMORY_STEPS = 70  # T at which memory is measured, as in the paper
MEMORY_BATCH = 20


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
    data, s = book(size).to(device), SIZES[size]
    options = {"bits": bits, "seed": seed, "device": device, "dtype": getattr(torch, dtype)}
    model = LanguageModel(len(data.info["vocabulary"]), kind, **s.model, **options)
    optimizer = (torch.optim.Adam if s.adam else torch.optim.SGD)(model.parameters(), lr=s.lr * SHARES.get(kind, 1.0))
    settings = {"batch_size": s.batch_size, "window": s.window, "clip": s.clip, "seed": seed, "decay": s.adam}
    settings["carry"] = bits != 0
    settings["validation"] = None if s.adam else data.validation
    train_language_model(model, data.train, optimizer, steps=s.steps if steps is None else steps, **settings)
    return model.eval(), data


def language(
    size: str,
    kind: str,
    limit: str,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    steps: int | None = None,
) -> dict[str, Any]:
    """Train a language model, measure it on the test text, and count what one pass over 70 steps leaves behind.

    The state is carried from window to window, but not where nothing is forgotten: there it would grow for ever.

    Args:
        size: One of ``SIZES``.
        kind: One of ``KINDS``.
        limit: The most that a unit forgets in a step, as ``"1 bit"``, ``"3 bits"``, ``"no limit"``; "–" for torch's.
        seed: Of the weights and the dropout masks.
        dtype: ``float32`` or ``float64``.
        device: Where to do all this.
        steps: In place of the size's own.

    Returns:
        ``perplexity`` and ``bits a token`` of the test text, and what :func:`memory` returns.
    """
    bits = None if limit in ("no limit", "–") else int(limit.split()[0])
    model, data = trained(size, kind, bits, seed, dtype, str(training.device(device)), steps)
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
    if isinstance(model.rnn, Stored):
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
