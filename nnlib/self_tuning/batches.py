"""What does a step see? Batches for ever, of examples or of texts; and a loss over all of them.

Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import shown, whole
from nnlib.modes import evaluating
from nnlib.training import Split


def batches(split: Split, batch_size: int | None, generator: torch.Generator) -> "Batches":
    """Batches without replacement, for ever: a fresh permutation (drawn on the CPU) whenever the data is used up.

    Args:
        split: n examples.
        batch_size: From 1 to n; a remainder is left out.
        generator: On the CPU.

    Raises:
        ValueError: for a batch size that is not from 1 to the number of examples, or not as many inputs as targets.
    """
    return Batches(split, batch_size, generator)


class Batches:
    """An endless iterator that says where it stands; see :func:`batches`."""

    def __init__(self, split: Split, batch_size: int | None, generator: torch.Generator):
        n = len(split.y)
        if not n or len(split.x) != n:
            raise ValueError(
                f"a Split of data must have as many inputs as targets, at least one: got {len(split.x)}, {n}"
            )
        whole(1, n, batch_size=batch_size)
        assert isinstance(batch_size, int)  # for the type checker
        self.split, self.batch_size, self.generator = split, batch_size, generator
        self.order, self.position = torch.empty(0, dtype=torch.int64, device="cpu"), 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> Split:
        if self.position + self.batch_size > len(self.order):
            self.order, self.position = torch.randperm(len(self.split.y), generator=self.generator, device="cpu"), 0
        rows = self.order[self.position : self.position + self.batch_size].to(self.split.y.device)
        self.position += self.batch_size
        return Split(self.split.x[rows], self.split.y[rows])

    def state_dict(self) -> dict[str, Any]:
        """Where it stands; the generator has its own state."""
        return {"batch_size": self.batch_size, "order": self.order, "position": self.position}

    def goes_on(self, state: dict[str, Any] | None) -> "Batches":
        """The same batches from where others of as many examples and this size stood; else from the beginning."""
        if state and state["batch_size"] == self.batch_size and len(state["order"]) in (0, len(self.split.y)):
            self.order, self.position = state["order"], state["position"]
        return self


def pair(batch: Any, number: int, what: str) -> Split:
    """A batch as (x, y): a pair of any kind, as a DataLoader gives.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        if not all(part.ndim and len(part) for part in batch):
            raise ValueError(f"a {what} batch must have an example: number {number} is {', '.join(map(shown, batch))}")
        return Split(*batch)
    kind = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
    raise ValueError(f"a {what} batch must be a pair (x, y) of tensors: number {number} is a {kind}")


def following(stream: Iterator[Any], done: int, steps: int, what: str) -> Split:
    """The next batch of a stream that must not end.

    Raises:
        ValueError: where it has ended.
    """
    try:
        return pair(next(stream), done + 1, what)
    except StopIteration:
        raise ValueError(
            f"data: the {what} batches ended after {done} of {steps} steps: give a Split, or batches that go on for "
            "ever, such as itertools.chain.from_iterable(itertools.repeat(loader))"
        ) from None


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
        for number, batch in enumerate(batches, 1):
            x, y = pair(batch, number, "data")
            total += loss(network(x), y).item() * y.numel()
            count += y.numel()
    if not count:
        raise ValueError("batches must hold at least one pair (x, y): got none")
    return total / count
