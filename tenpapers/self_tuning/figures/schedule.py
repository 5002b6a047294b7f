"""Which values does a tuner go through, from where, and are they better than the best constant? From recorded runs."""

import plotly.graph_objects as go

from tenpapers.page.look import COLORS, DASHES, describe, style
from tenpapers.page.text import number
from tenpapers.self_tuning import runs
from tenpapers.self_tuning.figures.budget import MEASURES

LOOKS = {  # of networks that are not at a constant value
    "STN": "STN",
    "replay of STN": "Replay",
    "constant with noise": "Random search",
    "constant with a wave": "Bayesian search",
    "final value of STN": "Median-pruned search",
}
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down"]


def starts(tuner: str = "STN") -> go.Figure:
    """The dropout rate over the steps of training, from several starts.

    Args:
        tuner: ``STN`` or ``Δ-STN``.
    """
    recorded = runs.starts.read(variant=tuner)
    figure, ends, lost = go.Figure(), {}, []
    dashes = ["solid", "8px,3px", "3px,3px", "12px,3px,3px,3px", "20px,3px"]
    for (start, part), dash, symbol in zip(recorded.groupby("start"), dashes, SYMBOLS, strict=True):
        line = {"color": COLORS[tuner], "dash": dash, "width": 2}
        sizes = [9 if i % 8 == 0 else 0 for i in range(len(part))]
        marker = {"color": COLORS[tuner], "symbol": symbol, "size": sizes}
        gone = part.value.isna().all()
        name = f"from {start:g}" + (": diverges" if gone else "")
        figure.add_scatter(x=part.step, y=part.value, mode="lines+markers", name=name, line=line, marker=marker)
        if gone:
            lost.append(f"{start:g}")
        else:
            ends[start] = float(part.value.iloc[-1])
    figure.update_xaxes(title_text="training step")
    figure.update_yaxes(title_text="dropout rate", range=[0, 0.9])
    figure.update_layout(height=400)
    return describe(
        figure,
        "self-tuning-starts",
        alt=(
            f"The dropout rate that {tuner} sets over the steps of one training of an MLP on digits, one curve for "
            "each of five starts between 0.05 and 0.85: most fall first, then they rise together. How far apart they "
            "end is in the line below the figure."
        ),
        summary=(
            f"{tuner}: rates that start {number(max(ends) - min(ends))} apart end within "
            f"{number(max(ends.values()) - min(ends.values()))} of each other, between "
            f"{number(min(ends.values()))} and {number(max(ends.values()))}."
            + (f" From {', '.join(lost)} the training diverges." if lost else "")
        ),
    )


def constants(problem: str = "MLP, digits", loss: str = "validation") -> go.Figure:
    """Loss over a constant dropout rate, and as levels that of schedules.

    Args:
        problem: one of the recorded problems.
        loss: ``validation``, the best of a training, or ``test``, at that moment.
    """
    recorded, column = runs.schedules.read(problem=problem), MEASURES[loss]
    fixed = recorded[recorded.schedule == "constant"].groupby("value")[column].mean()
    figure, told = go.Figure(), []
    look = style("Grid search") | {"name": "constant"}
    figure.add_scatter(x=fixed.index, y=fixed.to_numpy(), mode="lines+markers", **look)
    for schedule, owner in LOOKS.items():
        level = float(recorded[recorded.schedule == schedule][column].mean())
        line = {"color": COLORS[owner], "dash": DASHES[owner], "width": 2}
        ends = [float(fixed.index.min()), float(fixed.index.max())]
        figure.add_scatter(x=ends, y=[level] * 2, mode="lines", name=schedule, line=line)
        told.append(f"{schedule} {number(level)}")
    figure.update_xaxes(title_text="constant dropout rate")
    figure.update_yaxes(title_text=f"{loss} loss")
    figure.update_layout(height=440)
    return describe(
        figure,
        "self-tuning-constants",
        alt=(
            f"{problem}: the {loss} loss over a constant dropout rate as a curve, and as horizontal levels those of "
            "networks whose rate changes: by noise, by a wave, tuned by STN, replayed from STN's record, and held at "
            "STN's final value. The numbers are in the line below the figure."
        ),
        summary=f"{problem}, {loss} loss: lowest point of the curve {number(float(fixed.min()))}; {'; '.join(told)}.",
    )
