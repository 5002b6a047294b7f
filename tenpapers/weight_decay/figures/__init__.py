"""Figures of the chapter on weight decay; each is a pure function of what its arguments say.

Chapter: ``book/weight_decay.ipynb``.
"""

from tenpapers.weight_decay.figures.curvature import curvature_over_training
from tenpapers.weight_decay.figures.dial import dial
from tenpapers.weight_decay.figures.ellipse import ellipse
from tenpapers.weight_decay.figures.jacobian import jacobian_by_decay, jacobian_scatter
from tenpapers.weight_decay.figures.networks import accuracies, norm_transfer

__all__ = [
    "accuracies",
    "curvature_over_training",
    "dial",
    "ellipse",
    "jacobian_by_decay",
    "jacobian_scatter",
    "norm_transfer",
]
