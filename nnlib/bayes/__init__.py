"""What Bayesian networks share: likelihood heads, predictive metrics, mean-field layers, an exact linear posterior.

Two papers stand on it. Chapter: ``book/noisy_ekfac.ipynb``.

* ``Gaussian``, ``GammaGaussian``, ``Categorical``: outputs to distributions of targets; fixed, learnt, Gamma noise;
  ``Likelihood`` is what a method needs of such a head.
* ``regression_metrics``, ``classification_metrics`` and their parts: the scaling contract is in ``metrics``.
* ``MeanFieldLinear``, ``MeanFieldMLP``, ``mean_field_kl``: Bayes by backprop.
* ``LinearGaussian``, ``gaussian_kl``: the exact posterior that approximations are held against.
"""

from nnlib.bayes.likelihoods import Categorical, GammaGaussian, Gaussian, Likelihood
from nnlib.bayes.linear import LinearGaussian, gaussian_kl
from nnlib.bayes.mean_field import MeanFieldLinear, MeanFieldMLP, mean_field_kl
from nnlib.bayes.metrics import (
    calibration_error,
    classification_metrics,
    coverage,
    expected_calibration_error,
    log_likelihood,
    probability_below,
    regression_metrics,
    rmse,
)

__all__ = [
    "Categorical",
    "GammaGaussian",
    "Gaussian",
    "Likelihood",
    "LinearGaussian",
    "MeanFieldLinear",
    "MeanFieldMLP",
    "calibration_error",
    "classification_metrics",
    "coverage",
    "expected_calibration_error",
    "gaussian_kl",
    "log_likelihood",
    "mean_field_kl",
    "probability_below",
    "regression_metrics",
    "rmse",
]
