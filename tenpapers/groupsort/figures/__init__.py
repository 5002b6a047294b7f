"""Figures of the chapter on GroupSort; each is a pure function of what its controls say.

Chapter: ``book/groupsort.ipynb``.
"""

from tenpapers.groupsort.figures.ball import certificate_ball, toy_classifier, toy_points
from tenpapers.groupsort.figures.bjorck import bjorck_machine
from tenpapers.groupsort.figures.certified import certified_curves
from tenpapers.groupsort.figures.cones import ceilings, dimensions, potentials
from tenpapers.groupsort.figures.ledger import ledger
from tenpapers.groupsort.figures.spectrum import spectrum
from tenpapers.groupsort.figures.v_shape import v_shape

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
