"""Sorting as an activation: networks with a proven slope that can still make any function of that slope.

Paper: Anil, Lucas, Grosse, Sorting out Lipschitz function approximation (ICML 2019, arXiv 1811.05381).
Chapter: book/groupsort.ipynb. What the paper shares with BCOP (Björck, GroupSort, certificates) is in nnlib.lipschitz.

layers.py         SpectralLinear, ParsevalLinear, RowLinear: dense layers bounded in other ways, in three norms
convolution.py    ReshapedConv: a convolution that is bounded by its reshaped kernel
networks.py       LipschitzMLP: K-Lipschitz for every activation and constraint; JacobianPenalty
constructions.py  the theorems as networks with explicit weights
wasserstein.py    train_critic: a bound on W_1 from below
undead.py         undead_share: the ReLU units that never switch off
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
from nnlib.groupsort.convolution import ReshapedConv
from nnlib.groupsort.layers import ParsevalLinear, RowLinear, SpectralLinear, project_rows
from nnlib.groupsort.networks import CONSTRAINTS, JacobianPenalty, LipschitzMLP, plain_mlp
from nnlib.groupsort.undead import undead_share
from nnlib.groupsort.wasserstein import train_critic

__all__ = [
    "CONSTRAINTS",
    "JacobianPenalty",
    "LipschitzMLP",
    "ParsevalLinear",
    "ReshapedConv",
    "RowLinear",
    "SpectralLinear",
    "abs_from_maxmin",
    "absolute_value",
    "affine",
    "full_sort_from_maxmin",
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
