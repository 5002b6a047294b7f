"""Noisy natural gradient: variational posteriors over weights that an optimiser keeps, with corrected eigenvalues.

Papers: arXiv 1811.12565 (noisy EK-FAC, EMVG), 1712.02390 (noisy Adam, noisy K-FAC).
Chapter: ``book/noisy_ekfac.ipynb``.

* ``NoisyEKFAC``, ``NoisyKFAC``, ``NoisyAdam``, ``BayesByBackprop``: sample, backpropagate, step, predict.
* ``EigenvalueCorrected``, ``MatrixVariate``, ``Diagonal``, ``MeanField``: their posteriors, with KL, log-determinant,
  covariance; ``Rows`` and ``Locations`` are the statistics that they observe.
* ``fit_regression``: many copies of a small regression network, one a split, trained together.
* ``classify``: a network for images, trained by one of the four or by SGD or K-FAC.
* ``paired``, ``verdict``: is one method better than another, beyond what splits and seeds explain?
"""

from nnlib.noisy_ekfac.optimizers import OPTIMIZERS, BayesByBackprop, NoisyAdam, NoisyEKFAC, NoisyKFAC
from nnlib.noisy_ekfac.posteriors import (
    METHODS,
    Diagonal,
    EigenvalueCorrected,
    MatrixVariate,
    MeanField,
)
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
