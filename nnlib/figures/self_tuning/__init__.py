"""Figures of the chapter on self-tuning networks; each is a pure function of what its controls say.

Chapter: ``book/self_tuning.ipynb``.
"""

from nnlib.figures.self_tuning.budget import budget
from nnlib.figures.self_tuning.response import best_response
from nnlib.figures.self_tuning.schedule import LOOKS, constants, starts
from nnlib.figures.self_tuning.tuning import TUNERS, tuning

__all__ = ["LOOKS", "TUNERS", "best_response", "budget", "constants", "starts", "tuning"]
