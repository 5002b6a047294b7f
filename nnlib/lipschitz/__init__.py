"""Networks whose slope is bounded by construction, and what that bound is good for: what two papers share.

Papers: Anil et al., Sorting out Lipschitz function approximation (arXiv 1811.05381); Li et al., Preventing gradient
attenuation in Lipschitz constrained convolutional networks (arXiv 1911.00937). Chapters: book/groupsort.ipynb,
book/bcop.ipynb.

bjorck.py        bjorck: the nearest orthonormal matrix, by matrix products
polar.py         polar_gradient: its derivative, without the steps
values.py        readable, plain: whether a tensor's values may be looked at
norms.py         operator norms of dense layers and of convolutions
activations.py   GroupSort, MaxMin, FullSort, Maxout, Abs
layers.py        Constrained: the contract of a Lipschitz layer; OrthogonalLinear; Normalize, Upsample
bounds.py        layer_bound: what one layer does at most, if it is what it seems
operations.py    what sums, scalings, slices and other operations between layers do at most
trace.py         trace: what a network computes, as a graph
network.py       follow: bounds and rounding errors along that graph
rounding.py      worst_error: what rounding adds
losses.py        hinge_loss, margin_cross_entropy
applied.py       applied: what a model makes of points, or an error that names them
report.py        lipschitz_report: the bound from above, the slope from below, and where the difference is lost
certificates.py  certify: radii within which no perturbation changes the class
attacks.py       pgd; accuracies: clean >= attacked >= certified
export.py        export: plain nn.Linear and nn.Conv2d with the same certificate
projection.py    project_every: constraints that hold after a step of the optimiser
wasserstein.py   exact_distance between two samples, and the value of a critic
"""

from nnlib.lipschitz.activations import Abs, FullSort, GroupSort, MaxMin, Maxout, activation
from nnlib.lipschitz.attacks import CertificateBroken, accuracies, pgd
from nnlib.lipschitz.bjorck import BASIN, COEFFICIENTS, bjorck, norm_bound, residual
from nnlib.lipschitz.bounds import layer_bound
from nnlib.lipschitz.certificates import Certificate, certified_radius, certify, margins
from nnlib.lipschitz.export import export
from nnlib.lipschitz.layers import (
    Constrained,
    Normalize,
    OrthogonalLinear,
    Upsample,
    orthogonal_matrix,
)
from nnlib.lipschitz.losses import hinge_loss, margin_cross_entropy
from nnlib.lipschitz.network import Followed, LayerBound, follow
from nnlib.lipschitz.norms import conv_norm, conv_norm_bound, conv_singular_values, dense_norm
from nnlib.lipschitz.projection import project_, project_every
from nnlib.lipschitz.report import (
    LipschitzReport,
    jacobians,
    layer_bounds,
    lipschitz_constant,
    lipschitz_report,
)
from nnlib.lipschitz.rounding import NotCertifiable
from nnlib.lipschitz.wasserstein import dual_value, exact_distance

__all__ = [
    "BASIN",
    "COEFFICIENTS",
    "Abs",
    "Certificate",
    "CertificateBroken",
    "Constrained",
    "Followed",
    "FullSort",
    "GroupSort",
    "LayerBound",
    "LipschitzReport",
    "MaxMin",
    "Maxout",
    "Normalize",
    "NotCertifiable",
    "OrthogonalLinear",
    "Upsample",
    "accuracies",
    "activation",
    "bjorck",
    "certified_radius",
    "certify",
    "conv_norm",
    "conv_norm_bound",
    "conv_singular_values",
    "dense_norm",
    "dual_value",
    "exact_distance",
    "export",
    "follow",
    "hinge_loss",
    "jacobians",
    "layer_bound",
    "layer_bounds",
    "lipschitz_constant",
    "lipschitz_report",
    "margin_cross_entropy",
    "margins",
    "norm_bound",
    "orthogonal_matrix",
    "pgd",
    "project_",
    "project_every",
    "residual",
]
