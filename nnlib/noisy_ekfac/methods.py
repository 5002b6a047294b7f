"""The four methods by name: which optimiser keeps which posterior.

Papers: arXiv 1712.02390, 1811.12565, 1505.05424. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from typing import Any

from nnlib.arguments import typed
from nnlib.noisy_ekfac.corrected import EigenvalueCorrected
from nnlib.noisy_ekfac.diagonal import Diagonal
from nnlib.noisy_ekfac.matrix_variate import MatrixVariate
from nnlib.noisy_ekfac.mean_field import MeanField
from nnlib.noisy_ekfac.optimizer import NoisyOptimizer
from nnlib.noisy_ekfac.posterior import Posterior


class NoisyAdam(NoisyOptimizer):
    """A diagonal posterior, :class:`Diagonal`; arguments as in :class:`NoisyOptimizer`."""

    kind = Diagonal


@typed
class NoisyKFAC(NoisyOptimizer):
    """A matrix-variate posterior, :class:`MatrixVariate`; arguments as in :class:`NoisyOptimizer`.

    Options: ``update_basis_every`` and, by ``factored_damping=False``, exact damping.
    """

    kind = MatrixVariate

    def __init__(self, *args: Any, factored_damping: bool = True, **options: Any):
        if "damping_kind" in options:
            raise TypeError(f"NoisyKFAC takes factored_damping: got damping_kind={options['damping_kind']!r}")
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


@typed
class BayesByBackprop(NoisyOptimizer):
    """A diagonal posterior moved by Adam, :class:`MeanField`; arguments as in :class:`NoisyOptimizer`.

    There is no Fisher matrix to damp or to average: ``damping``, ``decay`` and ``update_statistics_every`` are refused
    (ValueError). ``kl_clip`` bounds lr times how much a move of means and deviations lowers the objective. Option:
    ``rho_start``.
    """

    kind = MeanField

    def __init__(self, *args: Any, **options: Any):
        ignored = {"damping": 0.0, "decay": MeanField.decay, "update_statistics_every": 1}
        if given := [name for name, usual in ignored.items() if options.get(name, usual) != usual]:
            raise ValueError(f"BayesByBackprop keeps no Fisher matrix and takes no {' or '.join(given)}")
        super().__init__(*args, **options)


OPTIMIZERS: dict[str, type[NoisyOptimizer]] = {
    "Bayes by backprop": BayesByBackprop,
    "Noisy Adam": NoisyAdam,
    "Noisy K-FAC": NoisyKFAC,
    "Noisy EK-FAC": NoisyEKFAC,
}
METHODS: dict[str, type[Posterior]] = {name: optimizer.kind for name, optimizer in OPTIMIZERS.items()}
