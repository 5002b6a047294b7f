"""Figures of the chapter on natural gradient; each is a pure function of what its arguments say.

Chapter: ``book/natural_gradient.ipynb``.
"""

from nnlib.figures.natural_gradient.leverage import leverage
from nnlib.figures.natural_gradient.race import most_bent, race
from nnlib.figures.natural_gradient.tables import conditioning, conditions, noise, pairs

__all__ = ["conditioning", "conditions", "leverage", "most_bent", "noise", "pairs", "race"]
