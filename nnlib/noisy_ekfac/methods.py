"""The four methods by name: which optimiser keeps which posterior.

Papers: arXiv 1712.02390, 1811.12565, 1505.05424. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from typing import Any

from nnlib.noisy_ekfac.corrected import EigenvalueCorrected
from nnlib.noisy_ekfac.diagonal import Diagonal
from nnlib.noisy_ekfac.matrix_variate import MatrixVariate
from nnlib.noisy_ekfac.mean_field import MeanField
from nnlib.noisy_ekfac.optimizer import NoisyOptimizer
from nnlib.noisy_ekfac.posterior import Posterior


class NoisyAdam(NoisyOptimizer):
    """A diagonal posterior, :class:`Diagonal`; arguments as in :class:`NoisyOptimizer`."""

    kind = Diagonal


class NoisyKFAC(NoisyOptimizer):
    """A matrix-variate posterior, :class:`MatrixVariate`; arguments as in :class:`NoisyOptimizer`.

    Options: ``update_basis_every`` and, by ``factored_damping=False``, exact damping.
    """

    kind = MatrixVariate

    def __init__(self, *args: Any, factored_damping: bool = True, **options: Any):
        super().__init__(*args, **options | {"damping_kind": "factored" if factored_damping else "exact"})


class NoisyEKFAC(NoisyOptimizer):
    """A posterior with corrected eigenvalues, :class:`EigenvalueCorrected`; arguments as in :class:`NoisyOptimizer`.

    Options: ``update_basis_every`` and ``on_basis_change``.

    >>> import torch
    >>> from nnlib.bayes import Gaussian
    >>> model, x = torch.nn.Linear(2, 1, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    >>> head = Gaussian(0.1, dtype=torch.float64)
    >>> optimizer = NoisyEKFAC(model, n_data=2, lr=0.05, likelihood=head)
    >>> for _ in range(50):
    ...     with optimizer.sample():
    ...         head.loss(model(x), torch.ones(2, 1, dtype=torch.float64)).backward()
    ...     optimizer.step()
    >>> optimizer.predict(x, particles=5).shape
    torch.Size([5, 2, 1])
    """

    kind = EigenvalueCorrected


class BayesByBackprop(NoisyOptimizer):
    """A diagonal posterior moved by Adam, :class:`MeanField`; arguments as in :class:`NoisyOptimizer`."""

    kind = MeanField


OPTIMIZERS: dict[str, type[NoisyOptimizer]] = {
    "Bayes by backprop": BayesByBackprop,
    "Noisy Adam": NoisyAdam,
    "Noisy K-FAC": NoisyKFAC,
    "Noisy EK-FAC": NoisyEKFAC,
}
METHODS: dict[str, type[Posterior]] = {name: optimizer.kind for name, optimizer in OPTIMIZERS.items()}
