"""The weight-decay dial: what decay does to the length of weights that the loss ignores, and to their direction."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.weight_decay import equilibrium_turn
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number
from tenpapers.weight_decay.sphere import Sphere, Walk, walk

DIM, STEPS, DAMPING = 24, 1500, 0.01
Q = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64, device="cpu", generator=torch.Generator("cpu"))).Q
PROBLEM = Sphere(Q @ torch.diag(torch.linspace(1, 4, DIM, dtype=torch.float64, device="cpu")) @ Q.T, noise=1.0)
SHOWN = np.unique(np.geomspace(1, STEPS, 28).round().astype(int))  # steps, from 1


DECAYS, RATES = (0, 0.003, 0.01, 0.03, 0.1, 0.3), (0.03, 0.1, 0.3)  # of the page


@lru_cache
def walks(method: str, cells: tuple[tuple[float, float], ...]) -> list[Walk]:
    """A walk of ``STEPS`` steps from |theta| = 1 for each (decay, learning rate), all at once."""
    theta = torch.full((DIM,), DIM**-0.5, dtype=torch.float64, device="cpu")
    decay, lr = torch.tensor(cells, dtype=torch.float64, device="cpu").T
    found = walk(PROBLEM, theta, method, lr, STEPS, weight_decay=decay, damping=DAMPING)
    return [Walk(*(column[:, i] for column in found)) for i in range(len(cells))]


def path(method: str, weight_decay: float, lr: float) -> Walk:
    """One walk; those of the page are made together."""
    page = tuple((d, r) for d in DECAYS for r in RATES)
    cells = page if (weight_decay, lr) in page else ((weight_decay, lr),)
    return walks(method, cells)[cells.index((weight_decay, lr))]


def dial(method: str = "SGD", weight_decay: float = 0.0, lr: float = 0.1) -> go.Figure:
    """Length of the weights and turn of their direction over the steps, beside the run without decay.

    Args:
        method: ``SGD``, ``Adam`` or ``K-FAC``.
        weight_decay: Decoupled; 0 for none.
        lr: Learning rate.
    """
    found, without = path(method, weight_decay, lr), path(method, 0.0, lr)
    figure = make_subplots(1, 2, subplot_titles=["length |θ|", "turn per step, in degrees"], horizontal_spacing=0.12)
    grey = {"name": "no decay", "line": {"color": COLORS["neutral"], "width": 1.5, "dash": "4px,3px"}}
    drawn = [(without, grey)] if weight_decay else []
    for run, look in [*drawn, (found, style(method) | {"name": f"{method}, decay {number(weight_decay)}"})]:
        look = look | {"mode": "lines"}
        figure.add_scatter(x=SHOWN, y=run.norm[SHOWN - 1].numpy(), **look, row=1, col=1)
        figure.add_scatter(x=SHOWN, y=_smooth(run.turn), **look | {"showlegend": False}, row=1, col=2)
    last = _smooth(found.turn)[-1]
    told = f"{method}: after {STEPS:,} steps |θ| = {number(float(found.norm[-1]))}, turning by {number(last)}° a step"
    if weight_decay:
        level = np.degrees(equilibrium_turn(lr, weight_decay))
        dotted = {"color": COLORS["Bound"], "width": 2, "dash": "1px,3px"}
        ends, name = SHOWN[[0, -1]], "equilibrium √(2 lr wd)"
        figure.add_scatter(x=ends, y=[level, level], name=name, mode="lines", line=dotted, row=1, col=2)
        told += f"; equilibrium √(2 lr wd) = {number(float(level))}°"
        if method == "SGD":
            g = float(found.gradient[-500:].square().mean().sqrt())
            norm = (lr * g**2 / (weight_decay * (2 - lr * weight_decay))) ** 0.25
            figure.add_scatter(x=ends, y=[norm, norm], mode="lines", line=dotted, showlegend=False, row=1, col=1)
            told += f", |θ| = {number(norm)}"
    figure.update_xaxes(**LOG, title="step", range=[0, np.log10(STEPS)])
    figure.update_yaxes(**LOG, range=[-1, 2], row=1, col=1)
    figure.update_yaxes(**LOG, range=[-2, 2], row=1, col=2)
    return describe(
        figure,
        "weight-decay-dial",
        alt=(
            "Two panels over the steps of a walk on a scale-invariant loss, on logarithmic axes. Left, the length of "
            "the weights: without decay it grows for ever, with decay it settles (K-FAC's goes to zero under strong "
            "decay). Right, the angle by which a step turns the weights: without decay it shrinks as the weights "
            "grow, with decay it settles at a dotted line that is the same for SGD, Adam and K-FAC, nearly."
        ),
        summary=told + ".",
        narrow=stack(figure),
    )


def _smooth(turn: torch.Tensor) -> np.ndarray:
    """Root mean square over the 15 % of steps before each of ``SHOWN``, in degrees."""
    squares = np.concatenate([[0], np.cumsum(turn[:STEPS].square().numpy())])
    first = (SHOWN * 0.85).astype(int)
    return np.degrees(np.sqrt((squares[SHOWN] - squares[first]) / (SHOWN - first)))
