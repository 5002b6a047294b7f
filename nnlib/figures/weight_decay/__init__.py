"""Figures of the chapter on weight decay; each is a pure function of what its arguments say.

Chapter: ``book/weight_decay.ipynb``.
"""

from nnlib.figures.weight_decay.curvature import curvature_over_training
from nnlib.figures.weight_decay.dial import dial
from nnlib.figures.weight_decay.ellipse import ellipse
from nnlib.figures.weight_decay.jacobian import jacobian_by_decay, jacobian_scatter
from nnlib.figures.weight_decay.networks import accuracies, norm_transfer

__all__ = [
    "accuracies",
    "curvature_over_training",
    "dial",
    "ellipse",
    "jacobian_by_decay",
    "jacobian_scatter",
    "norm_transfer",
]
