"""What does a network say where there are no data? Three objectives, watched during training, beside the exact GP."""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go

from nnlib.bayes import Gaussian
from nnlib.functional_bnn import fit, posterior, predict
from tenpapers.functional_bnn.workloads import sine, toy_network, toy_penalty, toy_prior
from tenpapers.page.look import COLORS, describe
from tenpapers.page.text import number

RUNS = {
    "fBNN, periodic": ("periodic + RBF", "fBNN"),
    "fBNN, RBF": ("RBF", "fBNN"),
    "weight-space VI": ("periodic + RBF", "weight-space VI"),
}
SNAPSHOTS = (0, 25, 50, 100, 200, 400)
POINTS = 81
BLUE, GREY = COLORS["BCOP"], "rgba(46,126,223,0.2)"


@lru_cache
def snapshots(objective: str) -> dict[int, np.ndarray]:
    """Function values on the grid, (60, 81), at each of ``SNAPSHOTS``."""
    kernel, method = RUNS[objective]
    problem, evidence, network = sine(POINTS), toy_prior("sine", kernel), toy_network()
    done = fit(
        network,
        problem.x,
        problem.y,
        toy_penalty(problem, evidence, method),
        Gaussian(problem.noise_sd**2, dtype=problem.x.dtype),
        steps=SNAPSHOTS[-1],
        lr=0.01,
        samples=40,
        look=lambda network: predict(network, problem.grid, 60).numpy(),
        look_at=SNAPSHOTS,
    )
    return done.snapshots


@lru_cache
def exact(kernel: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the Gaussian process with this kernel."""
    problem, evidence = sine(POINTS), toy_prior("sine", kernel)
    mean, covariance = posterior(evidence.kernel, problem.x, problem.y, problem.grid, problem.noise_sd)
    return mean.numpy(), covariance.diagonal().clamp_min(0).sqrt().numpy()


def error_outside(objective: str, step: int) -> float:
    """Root mean squared error of the predictive mean to the truth, away from the data."""
    problem = sine(POINTS)
    miss = snapshots(objective)[step].mean(0) - problem.truth.numpy()
    return float(np.sqrt((miss[problem.outside.numpy()] ** 2).mean()))


def extrapolation(objective: str = "fBNN, periodic", step: int = 400) -> go.Figure:
    """The predictive distribution of a network during training.

    Args:
        objective: A key of ``RUNS``.
        step: One of ``SNAPSHOTS``.
    """
    problem, f, miss = sine(POINTS), snapshots(objective)[step], error_outside(objective, step)
    x = problem.grid[:, 0].numpy().round(3)
    mean, sd = f.mean(0), f.std(0)
    figure = go.Figure()
    band = np.concatenate([mean + 2 * sd, (mean - 2 * sd)[::-1]])
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=band.clip(-9, 9).round(2), fill="toself", fillcolor=GREY, mode="lines",
        line={"width": 0}, name="two standard deviations", hoverinfo="skip",
    )  # fmt: skip
    for i in range(3):
        line = {"color": BLUE, "width": 0.8}
        figure.add_scatter(x=x, y=f[i].clip(-9, 9).round(2), name="functions", legendgroup="f", showlegend=i == 0,
                           mode="lines", line=line)  # fmt: skip
    figure.add_scatter(x=x, y=mean.round(2), name="network", mode="lines", line={"color": BLUE, "width": 3})
    if objective != "weight-space VI":
        line = {"color": COLORS["ReLU"], "dash": "6px,3px", "width": 2}
        figure.add_scatter(x=x, y=exact(RUNS[objective][0])[0].round(2), name="exact GP", mode="lines", line=line)
    line = {"color": COLORS["neutral"], "dash": "2px,3px", "width": 2}
    figure.add_scatter(x=x, y=problem.truth.numpy().round(2), name="truth", mode="lines", line=line)
    marker = {"color": COLORS["tanh"], "size": 8, "symbol": "circle"}
    data = {"x": problem.x[:, 0].numpy().round(3), "y": problem.y.numpy().round(3)}
    figure.add_scatter(**data, name="data", mode="markers", marker=marker)
    figure.update_xaxes(title_text="x (standardised)")
    figure.update_yaxes(title_text="y (standardised)", range=[-4, 4])
    return describe(
        figure,
        "fbnn-extrapolation",
        alt=(
            f"Twenty points of a sine in the middle, and what a network trained by {objective} says over a wider range "
            f"after {step} steps: its mean, a band of two standard deviations and three of its functions, beside the "
            "truth and, for the functional objectives, the exact Gaussian process."
        ),
        summary=(
            f"{objective}, step {step}: error of the mean away from the data {number(miss, 2)} "
            "standard deviations of y."
        ),
    )
