"""Sorting as an activation: networks with a proven slope that can still make any function of that slope.

Paper: Anil, Lucas, Grosse, Sorting out Lipschitz function approximation (ICML 2019, arXiv 1811.05381).
Chapter: book/groupsort.ipynb. What the paper shares with BCOP (Björck, GroupSort, certificates) is in nnlib.lipschitz.

layers.py         SpectralLinear, ParsevalLinear, RowLinear: dense layers bounded in other ways, in three norms
networks.py       LipschitzMLP: K-Lipschitz for every activation and constraint; JacobianPenalty
constructions.py  the theorems as networks with explicit weights
wasserstein.py    critics for W_1 beside the exact value
isometry.py       jacobian_spectrum at the start of training; undead_share
"""

from nnlib.groupsort.constructions import (
    abs_from_maxmin,
    absolute_value,
    affine,
    full_sort_from_maxmin,
    lattice_interpolant,
    leaky_relu_from_maxmin,
    maxmin_from_abs,
    maxmin_from_full_sort,
    orthonormalised,
    relu_ceiling,
)
from nnlib.groupsort.isometry import jacobian_spectrum, undead_share
from nnlib.groupsort.layers import ParsevalLinear, RowLinear, SpectralLinear, project_rows
from nnlib.groupsort.networks import CONSTRAINTS, JacobianPenalty, LipschitzMLP, plain_mlp
from nnlib.groupsort.wasserstein import (
    Cones,
    absolute_value_critic,
    absolute_value_run,
    cone_run,
    train_critic,
)

__all__ = [
    "CONSTRAINTS",
    "Cones",
    "JacobianPenalty",
    "LipschitzMLP",
    "ParsevalLinear",
    "RowLinear",
    "SpectralLinear",
    "abs_from_maxmin",
    "absolute_value",
    "absolute_value_critic",
    "absolute_value_run",
    "affine",
    "cone_run",
    "full_sort_from_maxmin",
    "jacobian_spectrum",
    "lattice_interpolant",
    "leaky_relu_from_maxmin",
    "maxmin_from_abs",
    "maxmin_from_full_sort",
    "orthonormalised",
    "plain_mlp",
    "project_rows",
    "relu_ceiling",
    "train_critic",
    "undead_share",
]
