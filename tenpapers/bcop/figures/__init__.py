"""Figures of the chapter on BCOP; each is a pure function of what its controls say.

Chapter: ``book/bcop.ipynb``.
"""

from tenpapers.bcop.figures.islands import islands
from tenpapers.bcop.figures.spectrum import conv_spectrum
from tenpapers.bcop.figures.tables import ablation, broken_constraint, critics
from tenpapers.bcop.figures.traveller import gradient_traveller

__all__ = ["ablation", "broken_constraint", "conv_spectrum", "critics", "gradient_traveller", "islands"]
