"""What does weight decay do to a network? Three mechanisms, each as exact identities and as measured training.

Paper: Zhang, Wang, Xu and Grosse, Three Mechanisms of Weight Decay Regularization (ICLR 2019, arXiv 1810.12281).
Chapter: book/weight_decay.ipynb.

optimizers.py  SGD, Adam, K-FAC-G and K-FAC-F, each without decay, with L2 and with decoupled decay, on chosen layers
invariance.py  mechanism 1: weights whose length the function ignores; effective learning rate; equilibrium
damping.py     mechanism 3: damping seen by the direction of the weights; curvature of normalised weights
"""

from nnlib.weight_decay.damping import damped_direction, effective_damping, normalised_curvature
from nnlib.weight_decay.invariance import (
    effective_lr,
    equilibrium_norm,
    equilibrium_turn,
    invariant_layers,
    matched_lr,
    rescale_,
    set_norms_,
    weight_norms,
)
from nnlib.weight_decay.optimizers import DECAYS, METHODS, WHERE, DecoupledSGD, decayed_layers, make_optimizer

__all__ = [
    "DECAYS",
    "METHODS",
    "WHERE",
    "DecoupledSGD",
    "damped_direction",
    "decayed_layers",
    "effective_damping",
    "effective_lr",
    "equilibrium_norm",
    "equilibrium_turn",
    "invariant_layers",
    "make_optimizer",
    "matched_lr",
    "normalised_curvature",
    "rescale_",
    "set_norms_",
    "weight_norms",
]
