"""Calls of ``nnlib.modes``."""

from torch import nn

CALLS = {"evaluating": lambda: {"model": nn.Linear(1, 1)}}
ELSEWHERE: dict[str, str] = {}
