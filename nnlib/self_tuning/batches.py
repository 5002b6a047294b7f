"""What does a step see? Batches for ever, of examples or of texts; and a loss over all of them.

Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.modes import evaluating
from nnlib.training import Split


def batches(split: Split, batch_size: int | None, generator: torch.Generator) -> Iterator[Split]:
    """Batches without replacement, for ever: a fresh permutation (drawn on the CPU) whenever the data is used up.

    Raises:
        ValueError: for a batch size that is not from 1 to the number of examples.
    """
    n = len(split.y)
    if batch_size is None or not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be from 1 to the {n} examples: got {batch_size}")
    while True:
        order = torch.randperm(n, generator=generator, device="cpu").to(split.y.device)
        for rows in order[: n - n % batch_size].split(batch_size):
            yield Split(split.x[rows], split.y[rows])


def number_of_examples(batch: Split) -> int:
    """B: the first dimension, and of texts, which are token ids (T, B) with a target each, the second.

    >>> image, text = torch.zeros(4, 1, 8, 8), torch.zeros(7, 4, dtype=torch.int64)
    >>> number_of_examples(Split(image, torch.zeros(4))), number_of_examples(Split(text, text))
    (4, 4)
    """
    x, y = batch
    is_text = x.ndim == 2 and x.shape == y.shape and not x.is_floating_point()
    return x.shape[1] if is_text else x.shape[0]


@torch.no_grad()
def mean_loss(network: nn.Module, batches: Iterable[Split], loss: Callable[[Any, Tensor], Tensor]) -> float:
    """Mean of a batch-mean loss over batches, weighted by their targets, in evaluation mode."""
    total, count = 0.0, 0
    with evaluating(network):
        for x, y in batches:
            total += loss(network(x), y).item() * y.numel()
            count += y.numel()
    return total / count
