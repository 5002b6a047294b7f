"""Figures of the chapter on natural gradient; each is a pure function of what its arguments say.

Chapter: ``book/natural_gradient.ipynb``.
"""

from tenpapers.natural_gradient.figures.batches import passes
from tenpapers.natural_gradient.figures.leverage import leverage
from tenpapers.natural_gradient.figures.race import most_bent, race
from tenpapers.natural_gradient.figures.tables import conditioning, conditions, noise, pairs
from tenpapers.natural_gradient.figures.units import units

__all__ = ["conditioning", "conditions", "leverage", "most_bent", "noise", "pairs", "passes", "race", "units"]
