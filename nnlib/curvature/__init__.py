"""Kronecker-factored curvature: factors, eigenbases, damped solves, exact small matrices, norms, the K-FAC optimiser.

Five papers stand on it. Chapter: ``book/curvature.ipynb``.
"""

from nnlib.curvature.chain import Chain, Tridiagonal, chain
from nnlib.curvature.dense import (
    dense_fisher,
    dense_gauss_newton,
    dense_hessian,
    jacobian,
    joint_weight,
    layer_index,
)
from nnlib.curvature.directions import NonFiniteGradient
from nnlib.curvature.factors import factors, rescale
from nnlib.curvature.kfac import KFAC
from nnlib.curvature.kronecker import Cholesky, Eigenbasis, Kronecker, NotPositiveDefinite
from nnlib.curvature.layers import blocks
from nnlib.curvature.norms import gauss_newton_norm, jacobian_norm, kfac_norm
from nnlib.curvature.quadratic import step_sizes

__all__ = [
    "KFAC",
    "Chain",
    "Cholesky",
    "Eigenbasis",
    "Kronecker",
    "NonFiniteGradient",
    "NotPositiveDefinite",
    "Tridiagonal",
    "blocks",
    "chain",
    "dense_fisher",
    "dense_gauss_newton",
    "dense_hessian",
    "factors",
    "gauss_newton_norm",
    "jacobian",
    "jacobian_norm",
    "joint_weight",
    "kfac_norm",
    "layer_index",
    "rescale",
    "step_sizes",
]
