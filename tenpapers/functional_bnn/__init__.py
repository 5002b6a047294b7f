"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/functional_bnn.ipynb.

toy.py         extrapolate, piecewise_run: the paper's toy problems
regression.py  regress: small tables, beside weight-space VI and the exact process
large.py       regress_large: a large table by mini-batches, with a neural-kernel prior
series.py      forecast: two series, with a prior of trend and season
agents.py      AGENTS: Thompson sampling by fBNN, Bayes by backprop, dropout, neural linear, linear; uniform
bandits.py     wheel, shuttle, mushroom as bandits; play, bandit_run
"""

from tenpapers.functional_bnn.agents import AGENTS
from tenpapers.functional_bnn.bandits import Bandit, bandit_run, mushroom, play, shuttle, wheel
from tenpapers.functional_bnn.large import regress_large
from tenpapers.functional_bnn.regression import ard_prior, regress
from tenpapers.functional_bnn.toy import (
    Toy,
    cubic,
    extrapolate,
    ornstein_uhlenbeck,
    piecewise_run,
    sine,
    steps,
    toy_prior,
)

__all__ = [
    "AGENTS",
    "Bandit",
    "Toy",
    "ard_prior",
    "bandit_run",
    "cubic",
    "extrapolate",
    "mushroom",
    "ornstein_uhlenbeck",
    "piecewise_run",
    "play",
    "regress",
    "regress_large",
    "shuttle",
    "sine",
    "steps",
    "toy_prior",
    "wheel",
]
