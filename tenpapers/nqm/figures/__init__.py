"""Figures of the chapter on the noisy quadratic model; each is a pure function of what its controls say.

Chapter: ``book/nqm.ipynb``.
"""

from tenpapers.nqm.figures.curves import METHODS, curve
from tenpapers.nqm.figures.lab import batch_size_lab
from tenpapers.nqm.figures.networks import networks
from tenpapers.nqm.figures.rates import learning_rates, noise_scale
from tenpapers.nqm.figures.risk import risk_over_time
from tenpapers.nqm.figures.schedule import schedule

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
