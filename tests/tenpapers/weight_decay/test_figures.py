"""The chapter's figures: what the explorers draw is what the formulas say, and tables become the right curves."""

import numpy as np
import pandas as pd
import pytest
import torch

from nnlib.weight_decay import equilibrium_turn
from tenpapers.weight_decay import figures
from tenpapers.weight_decay.figures.dial import DAMPING, DIM, PROBLEM, path
from tenpapers.weight_decay.figures.ellipse import AXES, EIGENVALUES, GRADIENT
from tenpapers.weight_decay.sphere import walk


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


@pytest.mark.parametrize("method", ["SGD", "Adam", "K-FAC"])
def test_the_dial_comes_to_rest_at_its_dotted_line(method):
    """The level in the figure is the formula's, and the curve ends on it."""
    figure = figures.dial(method, 0.1, 0.1)
    level = np.degrees(equilibrium_turn(0.1, 0.1))
    assert traces(figure, "equilibrium √(2 lr wd)")[0].y[0] == pytest.approx(level)
    length, turn = traces(figure, f"{method}, decay 0.100")
    assert turn.y[-1] == pytest.approx(level, rel=0.05)
    assert length.y[-1] < 0.5 * traces(figure, "no decay")[0].y[-1]


def test_without_decay_the_dial_shows_one_curve_that_slows_down():
    figure = figures.dial("SGD", 0, 0.1)
    length, turn = traces(figure, "SGD, decay 0")
    assert (np.diff(length.y) > 0).all() and turn.y[-1] < 0.1 * turn.y[0] and len(figure.data) == 2


def test_the_walks_of_the_page_are_those_that_one_walk_would_be():
    """They are made in one go; breaks if their noise, decay or learning rate is mixed up."""
    together = path("K-FAC", 0.03, 0.3)
    theta = torch.full((DIM,), DIM**-0.5, dtype=torch.float64)
    alone = walk(PROBLEM, theta, "K-FAC", 0.3, 200, weight_decay=0.03, damping=DAMPING)
    torch.testing.assert_close(together.norm[:100], alone.norm[:100], rtol=1e-6, atol=0)


def test_the_ellipse_is_the_damped_curvature_and_the_step_solves_it():
    figure = figures.ellipse(length=8.0, damping=1e-2, size=0.1)
    damped = 0.1 * AXES @ torch.diag(EIGENVALUES) @ AXES.T + 0.64 * torch.eye(2, dtype=torch.float64)
    outline = torch.tensor(np.stack([figure.data[0].x, figure.data[0].y]))
    values = (outline * (damped @ outline)).sum(0)
    torch.testing.assert_close(values, torch.full_like(values, float(torch.linalg.eigvalsh(damped)[-1])))
    end = torch.tensor([traces(figure, "damped step")[0].x[1], traces(figure, "damped step")[0].y[1]]).double()
    step = -torch.linalg.solve(damped, GRADIENT)
    torch.testing.assert_close(end / end.norm(), step / step.norm())
    assert "effective damping 0.640" in figure.layout.meta["summary"]


def test_longer_weights_turn_the_step_from_one_gradient_to_the_other():
    angles = []
    for length in (0.5, 4, 64):
        points = [t for t in figures.ellipse(length, 1e-3).data if t.mode == "markers"]
        angles.append([float(trace.y[0]) for trace in points])
    to_natural, to_plain = zip(*angles, strict=True)
    assert list(to_natural) == sorted(to_natural) and list(to_plain) == sorted(to_plain, reverse=True)


def test_tables_become_curves():
    """Each with its alt text; the means drawn are the means of the table."""
    runs = pd.DataFrame({"method": ["SGD", "SGD", "K-FAC-G"] * 2, "weight_decay": [0.0] * 3 + [0.1] * 3})
    runs = runs.assign(jacobian=[1.0, 3, 8, 1, 1, 1], norm=[2.0] * 6)
    figure = figures.jacobian_by_decay(runs)
    assert list(traces(figure, "SGD")[0].y) == [2, 1] and figure.layout.meta["alt"]
    rows = [
        {"run": run, "epoch": epoch, "learning_rate": 0.1, "norm": 2.0, "loss": 1.0 / (epoch + 1)}
        for run in ("none", "decay", "norms given", "norms given, decay on last")
        for epoch in (0, 1)
    ]
    assert traces(figures.norm_transfer(pd.DataFrame(rows)), "decay")[0].y[0] == pytest.approx(0.025)
    cells = [{"method": m, "decay": d, "batch_norm": b} for m in ("SGD", "Adam") for d in ("none",) for b in (0, 1)]
    accuracy = pd.DataFrame(cells).assign(data="mnist", test_accuracy=0.5)
    assert figures.accuracies(accuracy, "mnist").data[0].y[0] == 50
    scatter = pd.DataFrame({"hidden": [[4], [4, 4]], "decay": ["none", "decoupled"], "jacobian": [1.0, 2.0]})
    scatter = scatter.assign(kfac_norm=1.0, train_loss=0.0, test_loss=0.5)
    assert traces(figures.jacobian_scatter(scatter), "decay, 2 hidden")[1].x[0] == 0.5
    watched = {"epoch": [0, 0], "fisher": [1.0, 1], "gauss_newton": [2.0, 2], "effective_damping": [0.1, 0.1]}
    followed = pd.DataFrame({"decay": ["none", "decoupled"]} | watched)
    assert len(figures.curvature_over_training(followed).data) == 6


def test_a_missing_run_is_named():
    with pytest.raises(ValueError, match="no run on 'mnist'"):
        figures.accuracies(pd.DataFrame({"data": ["digits"]}), "mnist")
    with pytest.raises(ValueError, match="no run with decay 'none'"):
        figures.curvature_over_training(pd.DataFrame({"decay": ["l2"]}))
