"""From a method to a number that can be trusted: profiles, sweeps, and records that are checked ever after.

``profile`` picks an experiment's size, ``sweep`` runs a function over a grid into a tidy frame, ``record`` and
``table`` keep what was found in ``results/<chapter>.json``, ``claims`` sets the paper beside ours.
"""

from nnlib.experiments.profiles import PROFILES, profile
from nnlib.experiments.records import VERDICTS, RecordMismatch, claims, record, recorded, recorded_table, table
from nnlib.experiments.sweeps import sweep

__all__ = [
    "PROFILES",
    "VERDICTS",
    "RecordMismatch",
    "claims",
    "profile",
    "record",
    "recorded",
    "recorded_table",
    "sweep",
    "table",
]
