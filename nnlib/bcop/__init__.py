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
attenuation.py   the norm of a gradient through depth
classify.py      train_classifier, measure, run: clean, attacked and certified accuracy
recipes.py       the settings of each data set, at laptop and at paper size
wasserstein.py   run_critic: a lower bound on W_1 beside the exact value
"""

from nnlib.bcop.attenuation import gradient_norms
from nnlib.bcop.baselines import L2NEConv, OSSNConv, RKOConv, SVCMConv, clip_and_mask
from nnlib.bcop.classify import measure, run, train_classifier
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
from nnlib.bcop.wasserstein import gaussian_images, run_critic

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
    "gaussian_images",
    "gradient_norms",
    "gram_kernel",
    "island_kernel",
    "islands",
    "kernel_1d",
    "measure",
    "operator_matrix",
    "orthogonality_residual",
    "projector",
    "response",
    "run",
    "run_critic",
    "smallest_gain",
    "train_classifier",
    "winding_number",
]
