"""How good is a sequence model, and what did it keep? Cross-entropy over a text, training with carried states, BLEU.

Chapter: ``book/reversible_rnn.ipynb``.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from nnlib.descent import descend
from nnlib.modes import evaluating
from nnlib.reversible_rnn.language_model import LanguageModel, detached
from nnlib.training import Split
from tenpapers.data.text import windows


@torch.no_grad()
def nats(model: LanguageModel, split: Split, *, batch_size: int = 32, window: int = 40, carry: bool = True) -> float:
    """Mean cross-entropy of a text, in nats a token: exp of it is the perplexity, divided by log 2 the bits.

    Args:
        model: In any mode; measured in evaluation mode.
        split: Token ids (n,).
        batch_size: Places in which the text is read at once.
        window: Tokens at a time.
        carry: Whether the state is carried from window to window, or starts at zero in each.

    Chapter: ``book/reversible_rnn.ipynb``.

    >>> text = torch.zeros(200, dtype=torch.int64)
    >>> uniform = torch.log(torch.tensor(4.0)).item()
    >>> abs(nats(LanguageModel(4, "GRU", 2), Split(text, text)) - uniform) < 0.2
    True
    """
    total, count, state = 0.0, 0, None
    with evaluating(model):
        for part in windows(split, batch_size, window):
            logits, state = model(part.x, state if carry else None)
            total += cross_entropy(logits.flatten(0, 1), part.y.flatten(), reduction="sum").item()
            count += part.y.numel()
    return total / count


def train_language_model(
    model: LanguageModel,
    train: Split,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch_size: int,
    window: int,
    clip: float = 1.0,
    seed: int = 0,
    decay: bool = True,
    carry: bool = True,
    validation: Split | None = None,
    patience: int = 5,
) -> list[dict[str, float]]:
    """Truncated backpropagation through time, in place.

    Args:
        model: Trained in place; left in training mode.
        train: Token ids (n,), on the model's device.
        optimizer: Any over the model's parameters.
        steps: Number of windows to train on, in several passes over the text if need be.
        batch_size: B.
        window: T.
        clip: Largest norm of a gradient.
        seed: Of the dropout masks.
        decay: Let the learning rate fall in a straight line, to a tenth at the last step.
        carry: Whether the state is carried from window to window, or starts at zero in each.
        validation: With a text, the learning rate is divided by 4 after a pass over the training text whose perplexity
            is worse than the best but the last ``patience``.
        patience: See ``validation``.

    Returns:
        A dict for each step: ``step, loss``, the training loss in nats a token.

    Raises:
        NonFiniteLoss: at the first step whose loss is infinite or not a number.

    Source: arXiv 1810.10999, section 5.1, and 1708.02182, section 5, for the rule of ``validation``. Chapter:
    ``book/reversible_rnn.ipynb``.
    """
    generator = torch.Generator(model.bias.device).manual_seed(seed)
    first = [group["lr"] for group in optimizer.param_groups]
    state, rows, past = None, [], []
    parts = _passes(train, batch_size, window)
    model.train()

    def loss() -> Tensor:
        nonlocal state, first
        begins, part = next(parts)
        if begins:
            state = None
        if begins and rows and validation is not None:
            past.append(nats(model, validation, carry=carry))
            if len(past) > patience and past[-1] > min(past[:-patience]):
                first = [lr / 4 for lr in first]
        for group, lr in zip(optimizer.param_groups, first, strict=True):
            group["lr"] = lr * (1 - 0.9 * len(rows) / steps) if decay else lr
        logits, after = model(part.x, state if carry else None, generator)
        state = detached(after)
        return cross_entropy(logits.flatten(0, 1), part.y.flatten())

    descend(
        loss, optimizer, steps, clip=clip, after=lambda step, value: rows.append({"step": step, "loss": value.item()})
    )
    return rows


def _passes(text: Split, batch_size: int, window: int) -> Iterator[tuple[bool, Split]]:
    """Windows of a text, one pass after another, and whether a pass begins."""
    while True:
        for place, part in enumerate(windows(text, batch_size, window)):
            yield place == 0, part


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, of texts that are tokenised already, by sacrebleu.

    Args:
        translations: One text a sentence, words apart.
        references: As many, in the same order.

    Raises:
        ValueError: for lists of different lengths.

    Source: arXiv 1810.10999, section 5.2. Chapter: ``book/reversible_rnn.ipynb``.

    >>> bleu(["in the beginning was the word"], ["in the beginning was the word"])
    100.0
    """
    if len(translations) != len(references):
        raise ValueError(f"each translation needs a reference: got {len(translations)} and {len(references)}")
    import sacrebleu  # here, so that no other use of the package needs it

    options = {"tokenize": "none", "force": True}
    return round(sacrebleu.corpus_bleu(list(translations), [list(references)], **options).score, 6)
