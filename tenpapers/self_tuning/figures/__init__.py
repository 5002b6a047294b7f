"""Figures of the chapter on self-tuning networks; each is a pure function of what its controls say.

Chapter: ``book/self_tuning.ipynb``.
"""

from tenpapers.self_tuning.figures.budget import budget
from tenpapers.self_tuning.figures.response import best_response
from tenpapers.self_tuning.figures.schedule import LOOKS, constants, starts
from tenpapers.self_tuning.figures.tuning import TUNERS, tuning

__all__ = ["LOOKS", "TUNERS", "best_response", "budget", "constants", "starts", "tuning"]
