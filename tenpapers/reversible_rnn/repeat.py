"""Can a network that never forgets repeat what it reads? The task that it cannot do for long.

At each step the network reads a token and must name the token of the step before. Run backwards from its last state, a
network without forgetting restores all of its states, hence all of its outputs, hence all tokens: its last state would
have to hold T log2 V bits.
Paper: arXiv 1810.10999, section 3.1. Chapter: ``book/reversible_rnn.ipynb``.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nnlib.descent import descend
from nnlib.modes import evaluating
from nnlib.reversible_rnn.fixed_point import STATE_BITS
from nnlib.reversible_rnn.language_model import LanguageModel

SYMBOLS = 8


def repeat_batch(steps: int, batch_size: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Tokens drawn uniformly, (T + 1, B): rows 1..T are read, and rows 0..T-1 must be named one step later.

    >>> repeat_batch(4, 2, torch.Generator().manual_seed(0)).shape
    torch.Size([5, 2])
    """
    return torch.randint(SYMBOLS, (steps + 1, batch_size), generator=generator, device="cpu").to(device)


def capacity(hidden_size: int, largest: float = 1.0) -> float:
    """The most bits that a state of whole numbers can hold: log2 of the number of its values, |h| <= largest.

    >>> capacity(2, 1.0)
    48.0
    """
    return hidden_size * (STATE_BITS + 1 + math.log2(largest))


def repeat_task(
    bits: int | None = 3,
    length: int = 20,
    seed: int = 0,
    steps: int = 120,
    hidden_size: int = 16,
    batch_size: int = 64,
    lr: float = 0.02,
    dtype: str = "float32",
    device: str = "cpu",
) -> dict[str, Any]:
    """Train a RevGRU to name the token of the step before, and measure it on new sequences of the same length.

    Args:
        bits: What a unit may forget in a step; 0 is the network that never forgets.
        length: T.
        seed: Of the weights and the sequences.
        steps: Of Adam.
        hidden_size: H.
        batch_size: B.
        lr: Of Adam.
        dtype: ``float32`` or ``float64``.
        device: Where to do all this.

    Returns:
        ``accuracy`` (of the tokens that can be known, all but the first), ``last`` (accuracy at the last step), ``bits
        asked`` (T log2 V) and ``bits held`` (what the state can hold, given the largest |h| that occurs).
    """
    where = {"device": device, "dtype": getattr(torch, dtype)}
    model = LanguageModel(SYMBOLS, "RevGRU", hidden_size, SYMBOLS, bits=bits, seed=seed, **where)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    generator = torch.Generator("cpu").manual_seed(seed)

    def loss() -> Tensor:
        tokens = repeat_batch(length, batch_size, generator, device)
        logits, _ = model(tokens)
        return cross_entropy(logits[1:].flatten(0, 1), tokens[:-1].flatten())

    descend(loss, optimizer, steps, clip=1.0)
    tokens = repeat_batch(length, 250, generator, device)
    with torch.no_grad(), evaluating(model):
        logits, last = model(tokens)
    right = logits[1:].argmax(2) == tokens[:-1]  # (T, B)
    asked, held = length * math.log2(SYMBOLS), capacity(hidden_size, max(1.0, last.abs().max().item()))
    accuracy = {"accuracy": right.double().mean().item(), "last": right[-1].double().mean().item()}
    return {**accuracy, "bits asked": asked, "bits held": held}
