"""Which filters go? The lowest scores of all layers together, with a limit for each layer.

Paper: arXiv 1905.05934, section 4. Chapter: ``book/eigendamage.ipynb``.
"""

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from nnlib.arguments import real, typed, within

Key = TypeVar("Key", bound=Hashable)


@typed
def choose(
    scores: Mapping[Key, Tensor], ratio: float, *, cap: float = 0.95, normalise: bool = False
) -> dict[Key, Tensor]:
    """Keep the highest scores of all groups together, and in each group at least a share 1 - ``cap`` and one.

    The floor(ratio * N) lowest of all N scores go; of equal scores, the first. Where that would take more than
    floor(cap * n) of a group of n, the highest of these stay; the other groups do not pay for it.

    Args:
        scores: Finite scores of each group, (n,).
        ratio: Share of all N to remove, in [0, 1).
        cap: Largest share of a group that may be removed, in [0, 1).
        normalise: Divide each group's scores by their sum first.

    Returns:
        For each group, which to keep, booleans (n,).

    Raises:
        TypeError: for scores that are no tensors of real numbers by group.
        ValueError: for a ratio or cap outside [0, 1), no group, or a score that is not finite.

    Source: arXiv 1905.05934, algorithm 1. Chapter: ``book/eigendamage.ipynb``.

    >>> choose({"a": torch.tensor([1.0, 5.0]), "b": torch.tensor([3.0, 2.0, 9.0])}, 0.6)
    {'a': tensor([False,  True]), 'b': tensor([False, False,  True])}
    """
    within("[0, 1)", ratio=ratio, cap=cap)
    for key, group in scores.items():
        real("n", finite=True, **{f"the scores of {key!r}": group})
    if not scores:
        raise ValueError("scores must have at least one group: got none")
    if normalise:
        scores = {key: group / total if (total := group.sum()) > 0 else group for key, group in scores.items()}
    everything = torch.cat(list(scores.values()))
    going = everything.new_zeros(len(everything), dtype=torch.bool)
    going[everything.argsort(stable=True)[: math.floor(ratio * len(everything) + 1e-9)]] = True
    kept = {}
    for (key, group), mine in zip(scores.items(), going.split([len(g) for g in scores.values()]), strict=True):
        most = min(math.floor(cap * len(group) + 1e-9), len(group) - 1)
        count = min(int(mine.sum()), most)
        kept[key] = torch.ones_like(mine)
        kept[key][group.argsort(stable=True)[:count]] = False
    return kept
