"""Natural gradient in function space: why a wide network's outputs walk straight to their targets.

Paper: Zhang, Martens and Grosse, Fast Convergence of Natural Gradient Descent for Overparameterized Neural Networks
(NeurIPS 2019, arXiv 1905.10961). Chapter: book/natural_gradient.ipynb.

function_space.py  natural_gradient of any module by its Gram matrix, in blocks; how far the Jacobian has moved
two_layer.py       TwoLayer, the paper's network, and the Gram matrix of its infinite limit
train.py           train it by gradient descent, natural gradient, Gauss-Newton or K-FAC, watching both conditions
conditions.py      the two conditions and the step size of the theorem, as numbers; a certificate of the second
kfac.py            K-FAC's operator on the outputs, and leverage scores
losses.py          strongly convex losses and their rate
generalisation.py  the quantity of the generalisation bound, the bound, and what the infinite network predicts
"""

from nnlib.natural_gradient.conditions import certified_radius, largest_lr, radius, stability_constant
from nnlib.natural_gradient.function_space import gram, jacobian_change, natural_gradient, pull_back
from nnlib.natural_gradient.generalisation import complexity, interpolate, loss_bound
from nnlib.natural_gradient.kfac import kfac_operator, leverage_scores
from nnlib.natural_gradient.losses import SQUARED, Loss, logistic
from nnlib.natural_gradient.train import METHODS, Run, ideal_run, stable_lr, train
from nnlib.natural_gradient.two_layer import TwoLayer, infinite_gram

__all__ = [
    "METHODS",
    "SQUARED",
    "Loss",
    "Run",
    "TwoLayer",
    "certified_radius",
    "complexity",
    "gram",
    "ideal_run",
    "infinite_gram",
    "interpolate",
    "jacobian_change",
    "kfac_operator",
    "largest_lr",
    "leverage_scores",
    "logistic",
    "loss_bound",
    "natural_gradient",
    "pull_back",
    "radius",
    "stability_constant",
    "stable_lr",
    "train",
]
