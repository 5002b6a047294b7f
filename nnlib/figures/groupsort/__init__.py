"""Figures of the chapter on GroupSort; each is a pure function of what its controls say.

Chapter: ``book/groupsort.ipynb``.
"""

from nnlib.figures.groupsort.ball import certificate_ball, toy_classifier, toy_points
from nnlib.figures.groupsort.bjorck import bjorck_machine
from nnlib.figures.groupsort.certified import certified_curves
from nnlib.figures.groupsort.cones import ceilings, dimensions, potentials
from nnlib.figures.groupsort.ledger import ledger
from nnlib.figures.groupsort.spectrum import spectrum
from nnlib.figures.groupsort.v_shape import v_shape

__all__ = [
    "bjorck_machine",
    "ceilings",
    "certificate_ball",
    "certified_curves",
    "dimensions",
    "ledger",
    "potentials",
    "spectrum",
    "toy_classifier",
    "toy_points",
    "v_shape",
]
