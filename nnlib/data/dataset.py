"""What every loader returns. Chapter: all; the sets themselves are described in ``book/data.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Inputs ``x``, shape (n, ...), and targets ``y``, shape (n, ...), of one part of a data set."""

    x: Tensor
    y: Tensor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Split":
        """Move both tensors to ``device``; ``dtype`` changes those that hold real numbers, never class labels."""
        return Split(*(t.to(device, dtype if t.is_floating_point() else None) for t in self))


@dataclass(frozen=True)
class Dataset:
    """A data set cut in three.

    Args:
        train: What a model is fitted to.
        validation: What hyperparameters and stopping are chosen on.
        test: What a final number is measured on, once.
        info: ``classes`` (names, in the order of the labels), ``shape`` of one input, ``scaling`` in words.
        source: What was really loaded, in words; every experiment prints it.
        licence: The terms of the data.
    """

    train: Split
    validation: Split
    test: Split
    info: Mapping[str, Any]
    source: str
    licence: str

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Dataset":
        """The same data with all splits on ``device`` and real numbers in ``dtype``.

        >>> from nnlib.data import load
        >>> load("digits").to(dtype=torch.float64).train.x.dtype
        torch.float64
        """
        moved = {name: getattr(self, name).to(device, dtype) for name in ("train", "validation", "test")}
        return replace(self, **moved)
