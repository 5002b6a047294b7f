"""Figures of the primer on curvature; each is a pure function of what its arguments say.

Chapter: ``book/curvature.ipynb``.
"""

from tenpapers.curvature.figures.confidence import confidence
from tenpapers.curvature.figures.damping import damping
from tenpapers.curvature.figures.inverses import whole_inverses
from tenpapers.curvature.figures.matrices import layer_matrices, whole_matrices
from tenpapers.curvature.figures.patches import patches
from tenpapers.curvature.figures.regression import regression_fields
from tenpapers.curvature.figures.steps import steps_to_target

__all__ = [
    "confidence",
    "damping",
    "layer_matrices",
    "patches",
    "regression_fields",
    "steps_to_target",
    "whole_inverses",
    "whole_matrices",
]
