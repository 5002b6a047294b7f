"""What happens if a network is run backwards in floating point, by subtracting and dividing?"""

from functools import lru_cache

import plotly.graph_objects as go
import torch
from torch import Tensor

from nnlib.reversible_rnn import GRU, RevGRU
from tenpapers.page.look import COLORS, DASHES, LOG, MIDDLE_GREY, describe
from tenpapers.page.text import number

STEPS, UNITS, INPUTS, BATCH = 60, 64, 16, 8
FLOATS = {"float32": ("GRU", torch.float32), "float64": ("LSTM", torch.float64)}  # a colour and a dtype


@lru_cache
def reversal_errors(bits: int, dtype: torch.dtype) -> list[float]:
    """Largest error of a state after 1, 2, ... steps back in floating point: h' = (h - u) / z with the gates at hand.

    Args:
        bits: The most bits that a unit forgets in a step.
        dtype: In which all is computed.
    """
    rnn = RevGRU(INPUTS, UNITS, bits=bits, seed=0, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, BATCH, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    weights = [list(rnn.weights[4 * i : 4 * i + 4]) for i in (0, 1)]
    with torch.no_grad():
        h = [x.new_zeros(BATCH, UNITS // 2) for _ in range(2)]
        past = [list(h)]
        for step in x:
            for i in (0, 1):
                z, u, _ = GRU.updates[i].gates(bits, step, h[1 - i], *weights[i])
                h[i] = z * h[i] + u
            past.append(list(h))
        errors = []
        for step, wanted in zip(x.flip(0), past[-2::-1], strict=True):
            for i in (1, 0):
                z, u, _ = GRU.updates[i].gates(bits, step, h[1 - i], *weights[i])
                h[i] = (h[i] - u) / z
            errors.append(_largest(h, wanted))
    return errors


def _largest(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(found, wanted, strict=True))


def naive_reversal(bits: int = 2) -> go.Figure:
    """Largest error of the states over the number of steps undone, in single and double precision.

    Args:
        bits: The most bits that a unit forgets in a step.
    """
    figure, told = go.Figure(), []
    for name, (color, dtype) in FLOATS.items():
        errors = reversal_errors(bits, dtype)
        figure.add_scatter(
            x=list(range(1, STEPS + 1)),
            y=[min(max(e, 1e-18), 1e6) for e in errors],
            mode="lines",
            name=name,
            line={"color": COLORS[color], "dash": DASHES[color], "width": 2},
        )
        lost = next((i for i, e in enumerate(errors, start=1) if e > 0.1), None)
        told.append(f"{name} is off by {number(errors[9])} after 10 steps" + (f", by 0.1 after {lost}" if lost else ""))
    figure.add_hline(y=1, line={"color": MIDDLE_GREY, "dash": "dot", "width": 1}, annotation_text="size of a state")
    figure.update_xaxes(title_text="steps undone", range=[0, STEPS])
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
