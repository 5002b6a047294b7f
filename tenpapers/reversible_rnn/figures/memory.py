"""How much less is stored, for so many bits forgotten? A law of three numbers, beside the law of checkpointing."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nnlib.reversible_rnn.fixed_point import GATE_BITS
from tenpapers.page.look import COLORS, LOG, describe, style
from tenpapers.page.text import number
from tenpapers.reversible_rnn.figures.language import recorded

BITS = [round(float(b), 3) for b in np.geomspace(0.25, 10, 60)]


def words(bits: float, length: int, word: int = 64) -> int:
    """Words a unit that a buffer fills, where every gate forgets this many bits and both halves share the buffer.

    A word is put aside when it is full before a multiplication: after m = ceil((word - 1 - 10) / bits) of them. Two
    multiplications a step: ceil(2 T / m).

    Args:
        bits: b, forgotten at each multiplication.
        length: T.
        word: 32 or 64; one bit is the sign, and a digit of 10 bits must still fit.
    """
    return math.ceil(2 * length / math.ceil((word - 1 - GATE_BITS) / bits))


def _stored(bits: float, length: int, word: int, share: float) -> float:
    """Times less than all states: 64 T / (word words + 64 share T), for two halves of 32-bit states."""
    return 64 * length / (word * words(bits, length, word) + 64 * share * length)


def memory(bits: int = 3, length: int = 70, word: int = 64, share: str = "none") -> go.Figure:
    """Times less memory over bits forgotten: packed into words, ideal, and by checkpoints.

    Args:
        bits: where the large point is: forgotten at each multiplication.
        length: T, steps of a sequence.
        word: bits of a buffer's word.
        share: of the units that are stored for an attention: ``none``, ``1/16`` or ``1/4``.
    """
    sigma = {"none": 0.0, "1/16": 1 / 16, "1/4": 1 / 4}[share]
    figure = go.Figure()
    packed = [_stored(b, length, word, sigma) for b in BITS]
    ideal = [32 / (32 * sigma + (1 - sigma) * b) for b in BITS]
    look = style("RevGRU")
    figure.add_scatter(x=BITS, y=packed, mode="lines", **look | {"name": f"words of {word} bits"})
    ideal_look = style("Bound") | {"name": "bits alone"}
    figure.add_scatter(x=BITS, y=ideal, mode="lines", **ideal_look)
    # With a checkpoint every sqrt(T) steps: sqrt(T) checkpoints, and sqrt(T) states of the piece that is run again.
    root = length / (2 * math.sqrt(length))
    figure.add_scatter(x=[BITS[0], BITS[-1]], y=[root, root], mode="lines", **style("Checkpointing"))
    here = _stored(bits, length, word, sigma)
    figure.add_scatter(x=[bits], y=[here], mode="markers", showlegend=False, marker=look["marker"] | {"size": 13})
    if (length, word, share) == (70, 64, "none"):
        for kind, (x, y) in _measured().items():
            marker = {"color": COLORS[kind], "size": 9, "symbol": "circle"}
            figure.add_scatter(x=x, y=y, mode="markers", name=f"trained {kind}", marker=marker)
    axis: dict[str, Any] = LOG | {"dtick": "D2"}
    figure.update_xaxes(title_text="bits forgotten a unit and step", range=[math.log10(0.25), 1], **axis)
    figure.update_yaxes(title_text="times less memory", range=[0, math.log10(300)], **LOG)
    figure.update_layout(height=440)
    return describe(
        figure,
        "reversible-rnn-memory",
        alt=(
            "Times less memory than all states, over the bits that a unit forgets in a step, both axes logarithmic. "
            "The ideal curve falls as 32 over bits; words of a fixed size follow it in steps, below it where a word is "
            "nearly empty. The line of checkpointing is level: it depends on the length alone."
        ),
        summary=(
            f"{bits} bits, {length} steps, words of {word}, slice {share}: {number(here)} times less, "
            f"{number(32 / (32 * sigma + (1 - sigma) * bits))} times by bits alone; checkpoints, {number(root)} times."
        ),
    )


@lru_cache
def _measured() -> dict[str, tuple[list[float], list[float]]]:
    """Bits forgotten and times less memory of the recorded language models by kind, means over seeds."""
    runs = recorded()
    runs = runs[runs.forgotten > 0]  # not where nothing is forgotten, nor torch's own kinds, which have none
    mean = runs.groupby(["kind", "size", "limit"])[["forgotten", "paper"]].mean().reset_index()
    return {str(kind): (list(part.forgotten), list(part.paper)) for kind, part in mean.groupby("kind")}
