"""Variational inference over functions: networks as stochastic processes, with priors that are about functions.

Paper: Sun, Zhang, Shi, Grosse, Functional variational Bayesian neural networks (ICLR 2019, arXiv 1903.05779).
Chapter: book/functional_bnn.ipynb. Likelihoods and predictive metrics are those of nnlib.bayes; kernels are gpytorch's.

score.py       SpectralStein: the score of a density that only samples are known of; median_widths
kernels.py     ArcCosine; NeuralKernelNetwork, fit_on_subsets: kernels that gpytorch does not have
gp.py          fit_evidence, log_evidence, posterior: the exact Gaussian process, and its hyperparameters
priors.py      GaussianProcess, PiecewiseConstant, PiecewiseLinear: priors over functions
network.py     StochasticMLP: a network that draws whole functions
objective.py   kl_surrogate, measurement_set, adversarial_points, uniform_points: the KL's gradient, and where
train.py       fit, predict; FunctionSpace (the functional ELBO) and WeightSpace (Bayes by backprop)
process_kl.py  gaussian_kl, process_kl, feature_kl: the KL between processes at finite sets, in closed form
optimisation.py max_value_entropy: where to look next; process_belief, network_belief: what it is fed with
"""

from nnlib.functional_bnn.gp import Evidence, fit_evidence, log_evidence, posterior
from nnlib.functional_bnn.kernels import ArcCosine, NeuralKernelNetwork, fit_on_subsets
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.objective import adversarial_points, kl_surrogate, measurement_set, uniform_points
from nnlib.functional_bnn.optimisation import Belief, max_value_entropy, network_belief, process_belief
from nnlib.functional_bnn.priors import GaussianProcess, PiecewiseConstant, PiecewiseLinear
from nnlib.functional_bnn.process_kl import feature_kl, gaussian_kl, process_kl
from nnlib.functional_bnn.score import SpectralStein, median_widths
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict

__all__ = [
    "ArcCosine",
    "Belief",
    "Evidence",
    "FunctionSpace",
    "GaussianProcess",
    "NeuralKernelNetwork",
    "PiecewiseConstant",
    "PiecewiseLinear",
    "SpectralStein",
    "StochasticMLP",
    "WeightSpace",
    "adversarial_points",
    "feature_kl",
    "fit",
    "fit_evidence",
    "fit_on_subsets",
    "gaussian_kl",
    "kl_surrogate",
    "log_evidence",
    "max_value_entropy",
    "measurement_set",
    "median_widths",
    "network_belief",
    "posterior",
    "predict",
    "process_belief",
    "process_kl",
    "uniform_points",
]
