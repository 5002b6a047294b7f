"""Noisy Adam: a Fisher matrix that is diagonal in the weights' own axes, so that weights are independent.

Paper: arXiv 1712.02390. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import typed
from nnlib.noisy_ekfac.natural import FisherPosterior
from nnlib.noisy_ekfac.statistics import Statistics


@typed
@dataclass
class Diagonal(FisherPosterior):
    """Noisy Adam's: F = diag(f), f = E[squared gradient of an example]; arguments as in ``Posterior``.

    Source: arXiv 1712.02390, algorithm 1. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> from nnlib.noisy_ekfac import Rows
    >>> q = Diagonal(torch.zeros(1, 2), n_data=9, decay=0.0)
    >>> q.observe(Rows(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]])))
    >>> q.variance()[1] * 9  # 1 / (f + 1/9)
    tensor([[0.2432, 9.0000]])
    """

    def start(self) -> None:
        self.f = torch.ones_like(self.mean)

    def observe(self, statistics: Statistics) -> None:
        super().observe(statistics)
        self.f = statistics.squares(None).lerp(self.f, self.decay)

    def damped(self, damping: float) -> tuple[None, Tensor]:
        return None, self.f + damping
