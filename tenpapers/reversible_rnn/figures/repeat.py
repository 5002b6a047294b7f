"""How long a sequence can a network repeat that never forgets?"""

from functools import lru_cache

import pandas as pd
import plotly.graph_objects as go

from tenpapers.page.look import COLORS, DASHES, MIDDLE_GREY, describe
from tenpapers.page.text import number
from tenpapers.reversible_rnn import runs as tables
from tenpapers.reversible_rnn.repeat import SYMBOLS

GATES = {"gate 1, never forgets": ("neutral", 0), "learned gate, at most 3 bits": ("RevGRU", 3)}


@lru_cache
def recorded() -> pd.DataFrame:
    """The recorded runs of the task: one row a network, length and seed."""
    return tables.repeat.read()


def repeat() -> go.Figure:
    """Accuracy over the length of the sequence, with and without forgetting; a line through means over seeds."""
    runs, figure, told = recorded(), go.Figure(), []
    for name, (color, bits) in GATES.items():
        part = runs[runs.bits == bits]
        mean = part.groupby("length").accuracy.mean()
        options = {"color": COLORS[color], "dash": DASHES[color], "width": 2}
        figure.add_scatter(x=mean.index, y=100 * mean, mode="lines+markers", name=name, line=options)
        figure.add_scatter(
            x=part.length, y=100 * part.accuracy, mode="markers", showlegend=False, opacity=0.5,
            marker={"color": COLORS[color], "size": 5},
        )  # fmt: skip
        told.append(f"{name}: {number(100 * mean.iloc[-1])} % at length {mean.index[-1]}")
    line = {"color": MIDDLE_GREY, "dash": "dot", "width": 1}
    figure.add_hline(y=100 / SYMBOLS, line=line, annotation_text="guessing")
    figure.update_xaxes(title_text="length of the sequence", type="log", tickvals=sorted(runs.length.unique()))
    figure.update_yaxes(title_text="tokens repeated, %", range=[0, 103])
    return describe(
        figure,
        "reversible-rnn-repeat",
        alt=(
            "Share of tokens that are named one step later, over the length of the sequence. With a learned gate it is "
            "near 100 % at every length. With the gate fixed at 1 it is far below from the shortest on, and above "
            "guessing."
        ),
        summary="; ".join(told) + ".",
    )
