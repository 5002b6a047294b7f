"""Figures of the chapter on the noisy quadratic model; each is a pure function of what its controls say.

Chapter: ``book/nqm.ipynb``.
"""

from nnlib.figures.nqm.curves import METHODS, curve
from nnlib.figures.nqm.lab import batch_size_lab
from nnlib.figures.nqm.networks import networks
from nnlib.figures.nqm.rates import learning_rates, noise_scale
from nnlib.figures.nqm.risk import risk_over_time
from nnlib.figures.nqm.schedule import schedule

__all__ = [
    "METHODS",
    "batch_size_lab",
    "curve",
    "learning_rates",
    "networks",
    "noise_scale",
    "risk_over_time",
    "schedule",
]
