"""Figures of the chapter on functional variational BNNs; each is a pure function of what its controls say.

Chapter: ``book/functional_bnn.ipynb``.
"""

from nnlib.figures.functional_bnn.draws import covariance_twins
from nnlib.figures.functional_bnn.extrapolation import extrapolation
from nnlib.figures.functional_bnn.process_kl import what_the_kl_sees
from nnlib.figures.functional_bnn.score import score_from_samples
from nnlib.figures.functional_bnn.searches import searches
from nnlib.figures.functional_bnn.tables import regret

__all__ = ["covariance_twins", "extrapolation", "regret", "score_from_samples", "searches", "what_the_kl_sees"]
