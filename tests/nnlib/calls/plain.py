"""Calls of ``nnlib.plain``."""

from torch import nn

from nnlib.models import MLP

CALLS = {
    "layer_of": lambda: {"model": MLP([4, 3, 2]), "name": "layers.1"},
    "why_not_plain": lambda: {"layer": nn.Linear(4, 3), "known": (nn.LSTM,)},
    "tied": lambda: {"model": MLP([4, 3, 2])},
}
ELSEWHERE: dict[str, str] = {}
