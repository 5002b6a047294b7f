"""Where do the bits of a state go when a gate multiplies it, and how do they come back?"""

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.reversible_rnn import multiply, to_fixed, to_float, unmultiply
from tenpapers.page.look import COLORS, MIDDLE_GREY, describe, stack

GATES = {"half a bit": 724, "1 bit": 512, "2 bits": 256, "3.3 bits": 104}  # z*; what a multiplication forgets
STARTS = [1.0, 0.37, -0.8]
BUFFERS = ["kept", "thrown away"]
STEPS = 5
ADDED = (0.21, 0.35, 0.08, 0.29, 0.16)  # u of each step
STATE, BUFFER = 24, 20  # bits drawn; all that occur


def bit_by_bit(gate: str = "1 bit", start: float = 0.37, buffer: str = "kept") -> go.Figure:
    """Bits of a state and its buffer, five steps forward and five back; one row a moment.

    Args:
        gate: a key of ``GATES``.
        start: the state before the first step, one of ``STARTS``.
        buffer: one of ``BUFFERS``.
    """
    states, words = _run(GATES[gate], start, buffer == "kept")
    mirror = states[: STEPS + 1] + states[:STEPS][::-1]
    right = [a == b for a, b in zip(states, mirror, strict=True)]
    moments = ["start", *(f"step {i}" for i in range(1, STEPS + 1)), *(f"undo {i}" for i in range(STEPS, 0, -1))]
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.04, shared_yaxes=True, subplot_titles=("state h*", "buffer B")
    )
    for column, (values, wide) in enumerate(((states, STATE), (words, BUFFER)), start=1):
        z = _bits(values, wide)
        if column == 1:  # a bit that is not what it was on the way forward
            z = np.where(z != _bits(mirror, wide), z + 2, z)
        dark, wrong = ("#2E7EDF", COLORS["RevGRU"])
        scale = [[0, "rgba(128,128,128,0.12)"], [0.25, "rgba(128,128,128,0.12)"], [0.25, dark], [0.5, dark]]
        scale += [[0.5, "rgba(184,72,25,0.35)"], [0.75, "rgba(184,72,25,0.35)"], [0.75, wrong], [1, wrong]]
        options = {"zmin": -0.5, "zmax": 3.5, "colorscale": scale, "showscale": False, "xgap": 1, "ygap": 2}
        figure.add_heatmap(
            z=z, x=list(range(wide - 1, -1, -1)), y=moments, name=("state", "buffer")[column - 1],
            row=1, col=column, **options,
        )  # fmt: skip
    figure.update_xaxes(title_text="bit", autorange="reversed", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.add_hline(y=STEPS + 0.5, line={"color": MIDDLE_GREY, "dash": "dot", "width": 1})
    figure.update_layout(height=440)
    end, before = states[-1], states[0]
    told = (
        f"all {STEPS} steps are undone, every bit is back and the buffer is empty"
        if all(right) and words[-1] == 0
        else f"the state comes back as {_real(end):.7f} in place of {_real(before):.7f}: "
        f"{bin((end ^ before) & (2**STATE - 1)).count('1')} bits are wrong"
    )
    return describe(
        figure,
        "reversible-rnn-bits",
        alt=(
            "Two panels of bits, one row for each moment: the start, five multiplications by a gate with an addition "
            "after each, and the same five undone. Left the state, right the buffer, which grows downwards and shrinks "
            "again. With the buffer kept the lower half mirrors the upper. Without it, bits that differ from those on "
            "the way forward are drawn in another colour."
        ),
        summary=f"Gate {GATES[gate]}/1024, start {start:g}, buffer {buffer}: {told}.",
        narrow=stack(figure, 340),
    )


def _run(gate: int, start: float, keep: bool) -> tuple[list[int], list[int]]:
    """States h* and buffers at each moment, forward and back."""
    h, z, B = to_fixed(torch.tensor([start])), torch.tensor([gate]), torch.tensor([0])
    states, words = [int(h)], [0]
    added = [to_fixed(torch.tensor([u])) for u in ADDED]
    for u in added:
        h, B = multiply(h, z, B)
        h = h + u
        if not keep:
            B = torch.zeros_like(B)
        states.append(int(h))
        words.append(int(B))
    for u in reversed(added):
        h, B = unmultiply(h - u, z, B)
        if not keep:
            B = torch.zeros_like(B)
        states.append(int(h))
        words.append(int(B))
    return states, words


def _bits(values: list[int], wide: int) -> np.ndarray:
    """(moments, wide), the highest bit first."""
    return np.array([[value >> i & 1 for i in range(wide - 1, -1, -1)] for value in values])


def _real(value: int) -> float:
    return to_float(torch.tensor(value), torch.float64).item()
