"""Figures of the chapter on functional variational BNNs; each is a pure function of what its controls say.

Chapter: ``book/functional_bnn.ipynb``.
"""

from tenpapers.functional_bnn.figures.draws import covariance_twins
from tenpapers.functional_bnn.figures.extrapolation import extrapolation
from tenpapers.functional_bnn.figures.process_kl import what_the_kl_sees
from tenpapers.functional_bnn.figures.score import score_from_samples
from tenpapers.functional_bnn.figures.searches import searches
from tenpapers.functional_bnn.figures.tables import regret

__all__ = ["covariance_twins", "extrapolation", "regret", "score_from_samples", "searches", "what_the_kl_sees"]
