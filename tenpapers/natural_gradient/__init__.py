"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/natural_gradient.ipynb.

problems.py        points on the sphere, two classes of images
measure.py         the chapter's experiments, one row a run
"""

from tenpapers.natural_gradient.measure import (
    PROBLEMS,
    measure_conditioning,
    measure_noise,
    measure_pair,
    measure_run,
)
from tenpapers.natural_gradient.problems import Problem, pair, sphere

__all__ = [
    "PROBLEMS",
    "Problem",
    "measure_conditioning",
    "measure_noise",
    "measure_pair",
    "measure_run",
    "pair",
    "sphere",
]
