"""Figures of the chapter on BCOP; each is a pure function of what its controls say.

Chapter: ``book/bcop.ipynb``.
"""

from nnlib.figures.bcop.islands import islands
from nnlib.figures.bcop.spectrum import conv_spectrum
from nnlib.figures.bcop.tables import ablation, broken_constraint, critics
from nnlib.figures.bcop.traveller import gradient_traveller

__all__ = ["ablation", "broken_constraint", "conv_spectrum", "critics", "gradient_traveller", "islands"]
