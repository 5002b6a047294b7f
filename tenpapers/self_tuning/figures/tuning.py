"""Where do the two tuners take the penalty of ridge regression? Nothing is drawn: perturbations are averaged."""

from functools import lru_cache

import plotly.graph_objects as go

from nnlib.self_tuning.tune_ridge import RidgeRun, tune
from tenpapers.page.look import COLORS, describe, style
from tenpapers.page.text import number
from tenpapers.self_tuning.workloads import diabetes

STEPS = 200
TUNERS = {"Δ-STN": "delta", "STN": "stn"}


@lru_cache
def _optimum() -> float:
    return diabetes().optimum()


@lru_cache(maxsize=256)
def _run(variant: str, start: float, sigma: float, lr: float) -> RidgeRun:
    return tune(diabetes(), variant, start, sigma=sigma, lr=lr, hyper_lr=0.05, steps=STEPS)


def tuning(start: float = 2.0, sigma: float = 0.5, lr: float = 0.05) -> go.Figure:
    """The log-penalty over the steps of STN and Delta-STN, beside the optimum.

    Args:
        start: of the log-penalty.
        sigma: scale of the perturbations.
        lr: learning rate of the weights.
    """
    figure, told = go.Figure(), []
    optimum = _optimum()
    flat = {"color": COLORS["neutral"], "dash": "3px,3px", "width": 2}
    figure.add_scatter(x=[0, STEPS], y=[optimum] * 2, mode="lines", name="optimum", line=flat)
    for name, variant in TUNERS.items():
        run = _run(variant, start, sigma, lr)
        steps, path = [0, *(row["step"] for row in run.rows[::4])], [start, *(row["lam"] for row in run.rows[::4])]
        look = style(name)
        if run.diverged:
            steps, path = [*steps, len(run.rows) + 1], [*path, path[-1]]
            look["marker"] = look["marker"] | {"symbol": "x", "size": [0] * (len(steps) - 1) + [13]}
            look["name"] = f"{name}: diverges at ×"
            told.append(f"{name} diverges at step {len(run.rows) + 1}")
            figure.add_scatter(x=steps, y=path, mode="lines+markers", **look)
        else:
            figure.add_scatter(x=steps, y=path, mode="lines", **look)
            told.append(f"{name} ends at {number(run.rows[-1]['lam'])}")
    figure.update_xaxes(title_text="steps of λ", range=[-5, STEPS + 5])
    figure.update_yaxes(title_text="logarithm λ of the penalty", range=[-9, 3])
    figure.update_layout(height=420)
    return describe(
        figure,
        "self-tuning-tuning",
        alt=(
            "The logarithm of the penalty over the steps of the two tuners, from the chosen start, with the optimum as "
            "a dashed level near −2.7. At a middle scale Δ-STN's curve bends into that level; STN's ends early with a "
            "cross where its weights diverge, or moves away from the level."
        ),
        summary=(
            f"From λ = {number(start, 1)} with σ = {sigma:g} and learning rate {lr:g}: {'; '.join(told)}. "
            f"The optimum is {number(optimum)}."
        ),
    )
