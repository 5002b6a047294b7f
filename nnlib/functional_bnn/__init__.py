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
toy.py         extrapolate, piecewise_run: the paper's toy problems
regression.py  regress: small tables, beside weight-space VI and the exact process
large.py       regress_large: a large table by mini-batches, with a neural-kernel prior
series.py      forecast: two series, with a prior of trend and season
optimisation.py max_value_entropy, search: Bayesian optimisation of functions from known priors
agents.py      AGENTS: Thompson sampling by fBNN, Bayes by backprop, dropout, neural linear, linear; uniform
bandits.py     wheel, shuttle, mushroom as bandits; play, bandit_run
"""

from nnlib.functional_bnn.agents import AGENTS
from nnlib.functional_bnn.bandits import Bandit, bandit_run, mushroom, play, shuttle, wheel
from nnlib.functional_bnn.gp import Evidence, fit_evidence, log_evidence, posterior
from nnlib.functional_bnn.kernels import ArcCosine, NeuralKernelNetwork, fit_on_subsets
from nnlib.functional_bnn.large import regress_large
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.objective import adversarial_points, kl_surrogate, measurement_set, uniform_points
from nnlib.functional_bnn.optimisation import Landscape, drawn_landscape, max_value_entropy, search, search_run
from nnlib.functional_bnn.priors import GaussianProcess, PiecewiseConstant, PiecewiseLinear
from nnlib.functional_bnn.process_kl import feature_kl, gaussian_kl, process_kl
from nnlib.functional_bnn.regression import ard_prior, regress
from nnlib.functional_bnn.score import SpectralStein, median_widths
from nnlib.functional_bnn.toy import Toy, cubic, extrapolate, ornstein_uhlenbeck, piecewise_run, sine, steps, toy_prior
from nnlib.functional_bnn.train import FunctionSpace, WeightSpace, fit, predict

__all__ = [
    "AGENTS",
    "ArcCosine",
    "Bandit",
    "Evidence",
    "FunctionSpace",
    "GaussianProcess",
    "Landscape",
    "NeuralKernelNetwork",
    "PiecewiseConstant",
    "PiecewiseLinear",
    "SpectralStein",
    "StochasticMLP",
    "Toy",
    "WeightSpace",
    "adversarial_points",
    "ard_prior",
    "bandit_run",
    "cubic",
    "drawn_landscape",
    "extrapolate",
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
    "mushroom",
    "ornstein_uhlenbeck",
    "piecewise_run",
    "play",
    "posterior",
    "predict",
    "process_kl",
    "regress",
    "regress_large",
    "search",
    "search_run",
    "shuttle",
    "sine",
    "steps",
    "toy_prior",
    "uniform_points",
    "wheel",
]
