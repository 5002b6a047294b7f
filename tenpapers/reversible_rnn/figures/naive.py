"""What happens if a network is run backwards in floating point, by subtracting and dividing? From recorded runs."""

import plotly.graph_objects as go

from tenpapers.page.look import COLORS, DASHES, LOG, MIDDLE_GREY, describe
from tenpapers.page.text import number
from tenpapers.reversible_rnn import runs

FLOATS = {"float32": "GRU", "float64": "LSTM"}  # each in the colour of a method


def naive_reversal(bits: int = 2) -> go.Figure:
    """Largest error of the states over the number of steps undone, in single and double precision.

    Args:
        bits: The most bits that a unit forgets in a step.
    """
    figure, told = go.Figure(), []
    for name, color in FLOATS.items():
        found = runs.reversal.read(bits=bits, dtype=name)
        errors = found.error.tolist()
        figure.add_scatter(
            x=found.step.tolist(),
            y=[min(max(e, 1e-18), 1e6) for e in errors],
            mode="lines",
            name=name,
            line={"color": COLORS[color], "dash": DASHES[color], "width": 2},
        )
        lost = next((i for i, e in enumerate(errors, start=1) if e > 0.1), None)
        told.append(f"{name} is off by {number(errors[9])} after 10 steps" + (f", by 0.1 after {lost}" if lost else ""))
    figure.add_hline(y=1, line={"color": MIDDLE_GREY, "dash": "dot", "width": 1}, annotation_text="size of a state")
    figure.update_xaxes(title_text="steps undone", range=[0, runs.UNDONE])
    figure.update_yaxes(title_text="largest error of a state", **LOG | {"dtick": 3, "minor": None}, range=[-17, 4])
    return describe(
        figure,
        "reversible-rnn-naive",
        alt=(
            "The largest error of a state, on a logarithmic axis, over the number of steps that were undone in "
            "floating point. Both curves, single and double precision, rise in a nearly straight line from rounding "
            "to the size of the states themselves; with one bit much later than with more."
        ),
        summary=f"At most {bits} bits a unit and step: {'; '.join(told)}. Fixed point with a buffer: zero throughout.",
    )
