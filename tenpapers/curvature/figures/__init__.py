"""Figures of the primer on curvature; each is a pure function of what its arguments say.

Chapter: ``book/curvature.ipynb``.
"""

from tenpapers.curvature.figures.confidence import confidence, curvatures, shares, softmax_regression
from tenpapers.curvature.figures.damping import damping
from tenpapers.curvature.figures.matrices import layer_matrices, whole_matrices
from tenpapers.curvature.figures.network import LAYERS, approximations, decrease_share, network, relative_error
from tenpapers.curvature.figures.patches import patches
from tenpapers.curvature.figures.regression import fields, regression_fields
from tenpapers.curvature.figures.steps import steps_to_target

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
