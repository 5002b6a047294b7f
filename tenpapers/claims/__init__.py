"""What a paper says beside what was found here: claims as objects, and the rules that give their verdicts."""

from tenpapers.claims.claim import Claim, Evidence, Unfair, held_equal, learned, show
from tenpapers.claims.ledger import ledger
from tenpapers.claims.rules import VERDICTS, Deterministic, Direction, Equal, Exact, Figure, Threshold
from tenpapers.claims.sample import Sample, paired, sample

__all__ = [
    "VERDICTS",
    "Claim",
    "Deterministic",
    "Direction",
    "Equal",
    "Evidence",
    "Exact",
    "Figure",
    "Sample",
    "Threshold",
    "Unfair",
    "held_equal",
    "learned",
    "ledger",
    "paired",
    "sample",
    "show",
]
