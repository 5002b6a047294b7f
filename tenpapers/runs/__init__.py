"""From a method to a number that can be trusted: profiles, tables of runs, and their records.

``Table`` declares what a chapter runs, ``profile`` picks an experiment's size, ``sweep`` runs a function over a grid of
one's own.
"""

from tenpapers.runs.profiles import PROFILES, profile
from tenpapers.runs.sweeps import sweep
from tenpapers.runs.table import NotRun, Table

__all__ = [
    "PROFILES",
    "NotRun",
    "Table",
    "profile",
    "sweep",
]
