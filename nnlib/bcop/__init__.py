"""Orthogonal convolutions: networks of convolutions through which a gradient keeps its norm.

Paper: Li, Haque, Anil, Lucas, Grosse, Jacobsen, Preventing gradient attenuation in Lipschitz constrained convolutional
networks (NeurIPS 2019, arXiv 1911.00937). Chapter: book/bcop.ipynb. What it shares with GroupSort (Björck's iteration,
MaxMin, operator norms, certificates) is in nnlib.lipschitz.

kernels.py       block convolution, projectors, the BCOP kernel, the doubling of Theorem 2
convolution.py   LipschitzConv: what all layers share; gains: the true singular values, for any padding and size
layers.py        BCOPConv
baselines.py     RKOConv, OSSNConv, SVCMConv, L2NEConv
topology.py      winding numbers, components, the factors of a one-dimensional orthogonal convolution
networks.py      LipschitzCNN: the paper's Small, Large, FC-3 and critic with any of the layers
"""

from nnlib.bcop.baselines import L2NEConv, OSSNConv, RKOConv, SVCMConv, clip_and_mask
from nnlib.bcop.convolution import Gains, LipschitzConv, gains, operator_matrix
from nnlib.bcop.kernels import (
    bcop_kernel,
    block_convolution,
    double,
    extend,
    gram_kernel,
    orthogonality_residual,
    projector,
)
from nnlib.bcop.layers import BCOPConv
from nnlib.bcop.networks import ARCHITECTURES, METHODS, LipschitzCNN, conv_layer
from nnlib.bcop.topology import (
    Component,
    component,
    factorize_1d,
    island_kernel,
    islands,
    kernel_1d,
    response,
    smallest_gain,
    winding_number,
)

__all__ = [
    "ARCHITECTURES",
    "METHODS",
    "BCOPConv",
    "Component",
    "Gains",
    "L2NEConv",
    "LipschitzCNN",
    "LipschitzConv",
    "OSSNConv",
    "RKOConv",
    "SVCMConv",
    "bcop_kernel",
    "block_convolution",
    "clip_and_mask",
    "component",
    "conv_layer",
    "double",
    "extend",
    "factorize_1d",
    "gains",
    "gram_kernel",
    "island_kernel",
    "islands",
    "kernel_1d",
    "operator_matrix",
    "orthogonality_residual",
    "projector",
    "response",
    "smallest_gain",
    "winding_number",
]
