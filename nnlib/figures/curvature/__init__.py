"""Figures of the primer on curvature; each is a pure function of what its arguments say.

Chapter: ``book/curvature.ipynb``.
"""

from nnlib.figures.curvature.confidence import confidence, curvatures, shares, softmax_regression
from nnlib.figures.curvature.damping import damping
from nnlib.figures.curvature.matrices import layer_matrices, whole_matrices
from nnlib.figures.curvature.network import LAYERS, approximations, decrease_share, network, relative_error
from nnlib.figures.curvature.patches import patches
from nnlib.figures.curvature.regression import fields, regression_fields
from nnlib.figures.curvature.steps import steps_to_target

__all__ = [
    "LAYERS",
    "approximations",
    "confidence",
    "curvatures",
    "damping",
    "decrease_share",
    "fields",
    "layer_matrices",
    "network",
    "patches",
    "regression_fields",
    "relative_error",
    "shares",
    "softmax_regression",
    "steps_to_target",
    "whole_matrices",
]
