"""What does it cost to forget little? Bits a token over memory saved, from the recorded runs."""

from functools import lru_cache

import pandas as pd
import plotly.graph_objects as go

from tenpapers.page.look import describe, style
from tenpapers.page.text import number
from tenpapers.reversible_rnn import runs as tables

BOOKS = list(tables.BOOKS)
WAYS = {
    "counted as in the paper": "paper",
    "bits alone": "ideal",
    "bytes held, with output": "with output",
}


@lru_cache
def recorded() -> pd.DataFrame:
    """The recorded language models: one row a run; ``limit`` says how many bits a unit may forget in a step."""
    frame = tables.language.read()
    return frame.astype(dict.fromkeys(["forgotten", *WAYS.values()], float))


def trade_off(book: str = BOOKS[0], way: str = "counted as in the paper") -> go.Figure:
    """Bits a token over times less memory; a point for each run, a line through the means of a kind.

    Args:
        book: one of ``BOOKS``.
        way: how memory is counted, a key of ``WAYS``.
    """
    runs = recorded()
    runs = runs[runs["size"] == book]
    figure, told = go.Figure(), []
    for kind in ("GRU", "LSTM"):
        part = runs[runs.kind == kind]["bits a token"]
        if len(part):
            figure.add_scatter(x=[1, 100], y=[part.mean()] * 2, mode="lines", **style(kind))
            told.append(f"{kind} {number(part.mean())}")
    for kind in ("RevGRU", "RevLSTM"):
        part = runs[(runs.kind == kind) & runs[WAYS[way]].notna()]
        if part.empty:
            continue
        mean = part.groupby("limit", sort=False)[["bits a token", WAYS[way]]].mean().sort_values(WAYS[way])
        look = style(kind)
        figure.add_scatter(
            x=mean[WAYS[way]], y=mean["bits a token"], mode="lines+markers+text", textposition="top center",
            text=list(mean.index), **look,
        )  # fmt: skip
        figure.add_scatter(
            x=part[WAYS[way]], y=part["bits a token"], mode="markers", showlegend=False, opacity=0.5,
            marker=look["marker"] | {"size": 5}, legendgroup=kind,
        )  # fmt: skip
        told += [
            f"{kind} {limit} {number(row['bits a token'])} at {number(row[WAYS[way]])}"
            for limit, row in mean.iterrows()
        ]
    figure.update_xaxes(title_text="times less memory", type="log", range=[0, 2], dtick="D2")
    figure.update_yaxes(title_text="bits a token, test text")
    figure.update_layout(height=460)
    return describe(
        figure,
        "reversible-rnn-trade-off",
        alt=(
            "Bits a token on the test text over how many times less memory is kept, logarithmic. Each reversible kind "
            "is a line through its limits, the fewer bits may be forgotten the further right; level lines are GRU and "
            "LSTM, which keep every state."
        ),
        summary=f"{book}, {way}; bits a token, and times less memory: {'; '.join(told)}.",
    )
