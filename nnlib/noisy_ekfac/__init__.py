"""Noisy natural gradient: variational posteriors over weights that an optimiser keeps, with corrected eigenvalues.

Papers: arXiv 1811.12565 (noisy EK-FAC, EMVG), 1712.02390 (noisy Adam, noisy K-FAC).
Chapter: ``book/noisy_ekfac.ipynb``.

* ``NoisyEKFAC``, ``NoisyKFAC``, ``NoisyAdam``, ``BayesByBackprop``: sample, backpropagate, step, predict.
* ``EigenvalueCorrected``, ``MatrixVariate``, ``Diagonal``, ``MeanField``: their posteriors, with KL, log-determinant,
  covariance; ``Rows`` and ``Locations`` are the statistics that they observe.
* ``OPTIMIZERS``, ``METHODS``: both by name.
"""

from nnlib.noisy_ekfac.corrected import EigenvalueCorrected
from nnlib.noisy_ekfac.diagonal import Diagonal
from nnlib.noisy_ekfac.matrix_variate import MatrixVariate
from nnlib.noisy_ekfac.mean_field import MeanField
from nnlib.noisy_ekfac.methods import METHODS, OPTIMIZERS, BayesByBackprop, NoisyAdam, NoisyEKFAC, NoisyKFAC
from nnlib.noisy_ekfac.statistics import Locations, Rows

__all__ = [
    "METHODS",
    "OPTIMIZERS",
    "BayesByBackprop",
    "Diagonal",
    "EigenvalueCorrected",
    "Locations",
    "MatrixVariate",
    "MeanField",
    "NoisyAdam",
    "NoisyEKFAC",
    "NoisyKFAC",
    "Rows",
]
