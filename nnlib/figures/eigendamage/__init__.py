"""Figures of the chapter on EigenDamage; each is a pure function of what its controls say.

Chapter: ``book/eigendamage.ipynb``.
"""

from nnlib.figures.eigendamage.rise import bottleneck_cost, rise
from nnlib.figures.eigendamage.rotation import rotation
from nnlib.figures.eigendamage.scores import scores
from nnlib.figures.eigendamage.trade_off import AXES, STAGES, layers, trade_off

__all__ = ["AXES", "STAGES", "bottleneck_cost", "layers", "rise", "rotation", "scores", "trade_off"]
