"""Claims about ``tenpapers.natural_gradient.figures``: what is drawn is what the methods compute."""

import numpy as np
import pandas as pd
import pytest
import torch

from nnlib.natural_gradient import TwoLayer, ideal_run, leverage_scores, train
from tenpapers.natural_gradient import figures
from tenpapers.natural_gradient.figures.race import problem


def traces(figure, mode, axis):
    return [t for t in figure.data if t.mode == mode and (t.xaxis or "x") == axis]


def test_race_draws_the_natural_gradients_outputs_and_their_ideal():
    """The path on the left and the distances on the right, from a run of its own."""
    x, y, *_ = problem()
    i, j = figures.most_bent(x, y)
    run = train(TwoLayer(64, 64, dtype=torch.float64), x, y, "Natural gradient", 0.3, 15, watch=False)
    figure = figures.race(64, 0.3)
    (path,) = [t for t in traces(figure, "lines+markers", "x") if t.name == "Natural gradient"]
    np.testing.assert_allclose(path.x, run.outputs[:, i])
    np.testing.assert_allclose(path.y, run.outputs[:, j])
    (left,) = [t for t in traces(figure, "lines+markers", "x2") if t.name == "Natural gradient"]
    np.testing.assert_allclose(left.y, run.distance(y) / run.distance(y)[0])
    dotted = traces(figure, "lines", "x2")
    assert len(dotted) == 3 and any(np.allclose(t.y, 0.7 ** np.arange(16)) for t in dotted)


def test_the_two_examples_are_those_whose_path_bends_most():
    """Against all pairs, one by one. Breaks if length and distance are of different pairs."""
    x, y, *_ = problem()
    runs = [ideal_run(x, torch.zeros_like(y), y, method, lr, 100) for method, lr in (("GD", 1.0), ("K-FAC", 0.3))]

    def bend(u):
        return float(u.diff(dim=0).norm(dim=1).sum() / (u[-1] - u[0]).norm()) - 1

    best = max(
        (bend(runs[0][:, [i, j]]) * bend(runs[1][:, [i, j]]), i, j)
        for i in range(len(y))
        for j in range(len(y))
        if y[i] > 0 > y[j]
    )
    assert figures.most_bent(x, y) == best[1:]


def test_leverage_figure_predicts_by_the_scores_of_its_own_points():
    figure = figures.leverage(angle=60.0, lr=0.5)
    points = figure.data[0]
    scores = leverage_scores(torch.tensor(np.stack([points.x, points.y], 1)))
    curves = traces(figure, "lines", "x2")
    np.testing.assert_allclose(curves[1].y, (1 - 0.5 * float(scores[8])) ** np.arange(13))
    dots = traces(figure, "markers", "x2")
    assert np.abs(np.array(dots[1].y) - curves[1].y).max() < 0.05


def test_tables_draw_medians_over_seeds():
    runs = pd.DataFrame(
        {
            "data": "sphere",
            "method": "Natural gradient",
            "lr": 0.3,
            "width": [64] * 3,
            "drift": [1.0, 2.0, 9.0],
            "movement": [1.0, 2.0, 3.0],
            "constant": [5.0, 4.0, 3.0],
        }
    )
    assert [float(t.y[0]) for t in figures.conditions(runs).data] == [2.0, 2.0, 4.0]


@pytest.mark.parametrize("width", [16, 1024])
def test_every_figure_has_its_words(width):
    figure = figures.race(width, 1.0)
    assert figure.layout.meta["alt"] and f"Width {width:,}" in figure.layout.meta["summary"]
    assert "none" in figure.layout.meta["summary"]  # of the natural gradient nothing is left


def test_steps_of_minimum_norm_end_on_one_line_and_are_shortest_in_their_own_units():
    """Breaks if a step is not drawn back from its units, or the units are on the wrong side."""
    table = pd.DataFrame(
        [
            {"method": m, "factor": f, "width": w, "d": 10, "training": 0.1 * f * w, "test": f + i}
            for i, m in enumerate(("GD", "Natural gradient", "K-FAC"))
            for f in (2.0, 4.0)
            for w in (1, 2)
        ]
    )
    figure = figures.units(table)
    strokes = [t for t in figure.data if t.mode == "lines+markers+text"]
    for unit, stroke in zip((0.25, 0.5, 1, 2, 4), strokes, strict=True):
        a, b = stroke.x[1], stroke.y[1]
        assert a + 0.75 * b == pytest.approx(1)
        for t in (-0.01, 0.01):  # along the line
            assert (a - 0.75 * t) ** 2 + ((b + t) / unit) ** 2 > a**2 + (b / unit) ** 2
    (curve,) = [t for t in figure.data if t.name == "K-FAC" and t.xaxis == "x3"]
    assert list(curve.y) == [0, 4, 6]
    (wide,) = [t for t in figure.data if t.name == "GD" and t.xaxis == "x2"]
    np.testing.assert_allclose(wide.y, [0, 0.4, 0.8])


def test_passes_draw_means_by_batch_size():
    rows = [
        {"gap": gap, "batch_size": size, "epochs": size + gap + seed}
        for gap in (1.0, 0.1)
        for size in (1, 24)
        for seed in (0, 2)
    ]
    figure = figures.passes(pd.DataFrame(rows))
    np.testing.assert_allclose(figure.data[0].y, [3, 26])
    np.testing.assert_allclose(figure.data[1].y, [2.1, 25.1])
