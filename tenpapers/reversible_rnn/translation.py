"""The experiment of the chapter on translation: English verses into Spanish, with each kind of context.

Paper: arXiv 1810.10999, section 5.2. Chapter: ``book/reversible_rnn.ipynb``.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nnlib import training
from nnlib.descent import descend
from nnlib.modes import evaluating
from nnlib.reversible_rnn import RevGRU, RevLSTM, Stored
from nnlib.reversible_rnn.memory import held_bytes, paper_memory
from nnlib.reversible_rnn.translation import Translator, translate
from nnlib.training import Dataset, Split
from tenpapers.data import decode, padded_batches
from tenpapers.data.text import BEGIN, END, PAD
from tenpapers.reversible_rnn.evaluate import bleu
from tenpapers.reversible_rnn.workloads import PAIRS, pairs

LONGEST = 30  # words of a translation
MEASURED = 20  # sentences on which memory is measured


def trained(
    size: str,
    kind: str,
    context: str,
    bits: int | None = 3,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    steps: int | None = None,
) -> tuple[Translator, Dataset]:
    """A trained translator and its sentences.

    Args:
        size: One of ``PAIRS``.
        kind: One of ``KINDS``.
        context: One of ``CONTEXTS``.
        bits: The most bits that a unit forgets in a step.
        seed: Of the weights, the order of sentences and the dropout masks.
        dtype: ``float32`` or ``float64``.
        device: Where to train.
        steps: In place of the size's own.
    """
    data = pairs(size).to(device)
    s, known = PAIRS[size], data.info["vocabulary"]
    options = {"bits": bits, "seed": seed, "device": device, "dtype": getattr(torch, dtype), **s.model}
    model = Translator(len(known["english"]), len(known["spanish"]), kind, context, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=s.lr)
    order, masks = torch.Generator("cpu").manual_seed(seed), torch.Generator(device).manual_seed(seed)
    total = s.steps if steps is None else steps
    batches = _endless(data.train, s.batch_size, order)
    done = 0

    def loss() -> Tensor:
        nonlocal done
        optimizer.param_groups[0]["lr"] = s.lr * (1 - 0.9 * done / total)
        done += 1
        return _loss(model, next(batches), masks)

    descend(loss, optimizer, total, clip=s.clip)
    return model.eval(), data


def _endless(split: Split, batch_size: int, order: torch.Generator) -> Iterator[Split]:
    """Batches, one pass after another."""
    while True:
        yield from padded_batches(split, batch_size, order)


def _loss(model: Translator, batch: Split, masks: torch.Generator | None = None, reduction: str = "mean") -> Tensor:
    """Cross-entropy of the target words, the end mark among them."""
    logits = model(batch.x, batch.y[:, :-1], masks)
    return cross_entropy(logits.flatten(0, 1), batch.y[:, 1:].T.flatten(), ignore_index=0, reduction=reduction)


@torch.no_grad()
def quality(model: Translator, data: Dataset) -> dict[str, float]:
    """``perplexity`` of the target words and ``BLEU`` of greedy translations, on the test sentences.

    References are texts in the vocabulary: a rare word is <unk> in both.

    Args:
        model: In evaluation mode.
        data: As :func:`pairs` returns it.
    """
    known = data.info["vocabulary"]["spanish"]
    total, words, ours, references = 0.0, 0, [], []
    for batch in padded_batches(data.test, 100):
        total += _loss(model, batch, reduction="sum").item()
        words += int((batch.y[:, 1:] != known.index(PAD)).sum())
        ids = translate(model, batch.x, begin=known.index(BEGIN), end=known.index(END), longest=LONGEST)
        ours += [decode(row, known, " ") for row in ids]
        references += [decode(row, known, " ") for row in batch.y]
    return {"perplexity": math.exp(total / words), "BLEU": bleu(ours, references)}


def translation(
    size: str,
    kind: str,
    context: str,
    bits: int | None = 3,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    steps: int | None = None,
) -> dict[str, Any]:
    """Train a translator, measure it, and count what encoder and decoder keep.

    Args:
        size: One of ``PAIRS``.
        kind: One of ``KINDS``.
        context: One of ``CONTEXTS``.
        bits: The most bits that a unit forgets in a step.
        seed: Of all that is drawn.
        dtype: ``float32`` or ``float64``.
        device: Where to do all this.
        steps: In place of the size's own.

    Returns:
        What :func:`quality` and :func:`memory` return.
    """
    model, data = trained(size, kind, context, bits, seed, dtype, str(training.device(device)), steps)
    return quality(model, data) | memory(model, data.test)


def memory(model: Translator, split: Split) -> dict[str, float | None]:
    """How many times less encoder and decoder keep, on the longest sentences, cut to the shortest of them.

    Args:
        model: In any mode; measured in evaluation mode.
        split: Sentences.

    Returns:
        For ``encoder`` and ``decoder``, each with ``paper`` (32 bits a state over buffers and what attention reads of
        the encoder), ``ideal`` (over bits forgotten and what is read) and ``held`` (bytes that the same cell under
        autograd leaves, over those that this one leaves; outputs on both sides). None for torch's own kinds.
    """
    found: dict[str, float | None] = {}
    with evaluating(model):
        for side, rnn, tokens in (("encoder", model.encoder, split.x), ("decoder", model.decoder, split.y)):
            lengths = (tokens != 0).sum(1)
            longest = lengths.argsort(descending=True, stable=True)[:MEASURED]
            x = model.words(tokens[longest, : int(lengths[longest].min())], "source" if side == "encoder" else "target")
            every = side == "encoder" and model.context == "hidden"
            found |= {f"{side} {way}": value for way, value in _ways(rnn, x.detach(), every).items()}
    return found


def _ways(rnn: RevGRU | RevLSTM | Stored, x: Tensor, every: bool) -> dict[str, float | None]:
    """Savings of one network; ``every``: all states are read by the attention, and so stored."""
    if isinstance(rnn, Stored):
        return dict.fromkeys(("paper", "ideal", "held"))
    counted = paper_memory(rnn, x)
    read = counted.states if every else 0
    twin = copy.deepcopy(rnn)
    twin.reversible = False
    held = held_bytes(twin, x).with_output / held_bytes(rnn, x).with_output
    return {
        "paper": counted.states / (counted.stored + read),
        "ideal": counted.states / (counted.ideal + read),
        "held": held,
    }
