"""Figures of the chapter on EigenDamage; each is a pure function of what its controls say.

Chapter: ``book/eigendamage.ipynb``.
"""

from tenpapers.eigendamage.figures.rise import bottleneck_cost, rise
from tenpapers.eigendamage.figures.rotation import rotation
from tenpapers.eigendamage.figures.scores import scores
from tenpapers.eigendamage.figures.trade_off import AXES, STAGES, layers, trade_off

__all__ = ["AXES", "STAGES", "bottleneck_cost", "layers", "rise", "rotation", "scores", "trade_off"]
