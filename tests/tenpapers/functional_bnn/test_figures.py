"""Figures show what their functions compute, and explorers stay small."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from nnlib.functional_bnn import SpectralStein
from tenpapers.functional_bnn import figures, runs
from tenpapers.functional_bnn.figures.process_kl import values
from tenpapers.functional_bnn.figures.score import draw, true_score


@pytest.mark.parametrize("family", ["rougher process", "three features"])
def test_bars_of_the_kl_never_fall_and_less_noise_shows_more(family):
    for noise in (0.3, 0.01):
        bars = values(family, noise)
        assert all(b >= a - 1e-9 for a, b in pairwise(bars))
    assert values(family, 0.01)[-1] > values(family, 0.3)[-1]
    figure = figures.what_the_kl_sees(4, 0.1, family)
    np.testing.assert_allclose(figure.data[-1].y, values(family, 0.1)[:4], atol=1e-3)


@pytest.mark.parametrize("density", ["one Gaussian", "mixture of two"])
def test_true_scores_are_derivatives_of_the_log_density(density):
    from tenpapers.functional_bnn.figures.score import DENSITIES

    x = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    parts = [torch.distributions.Normal(m, s).log_prob(x) for m, s in DENSITIES[density]]
    (slope,) = torch.autograd.grad(torch.stack(parts).logsumexp(0).sum(), x)
    torch.testing.assert_close(true_score(density, x.detach()), slope)


def test_the_score_explorer_draws_the_estimators_own_values():
    figure = figures.score_from_samples("one Gaussian", 100, 6)
    grid = torch.linspace(-2.5, 2.5, 81, dtype=torch.float64)[:, None]
    expected = SpectralStein(draw("one Gaussian", 100), 6, "scalar").score(grid)[:, 0].clamp(-9, 9)
    np.testing.assert_allclose(figure.data[1].y, expected.numpy(), atol=0.006)


def test_regret_is_a_share_of_the_uniform_agents():
    rows = [
        {"problem": "wheel", "agent": a, "seed": s, "regret": r}
        for a, r in {
            "uniform": 200.0, "linear": 50.0, "neural linear": 40.0, "dropout": 30.0, "Bayes by backprop": 20.0,
            "fBNN": 10.0,
        }.items()
        for s in (0, 1)
    ]  # fmt: skip
    figure = figures.regret(pd.DataFrame(rows))
    assert {bar.name: bar.y[0] for bar in figure.data}["linear"] == 25.0
    assert "fBNN least, 5.00 %" in figure.layout.meta["alt"]


def test_twins_are_steps_and_a_rough_curve():
    figure = figures.covariance_twins()
    flat = [np.mean(np.diff(trace.y) == 0) for trace in figure.data]
    assert min(flat[:3]) > 0.9 and max(flat[3:]) < 0.1


def test_searches_draw_the_mean_regret_of_each_method_in_its_panel(monkeypatch):
    rows = [
        {"kernel": k, "d": d, "method": m, "seed": s, "after 0": 2.0, "after 2": 1.0 + d + s}
        for k in ("RBF", "arc-cosine")
        for d in (1, 2)
        for m in ("random search", "Bayes by backprop", "fBNN", "exact GP")
        for s in (0, 1)
    ]
    columns = ("kernel", "d", "method", "seed", "after 0", "after 2")
    recorded = SimpleNamespace(read=lambda: pd.DataFrame(rows), columns=columns)
    monkeypatch.setattr(runs, "searches", recorded)
    one, two = (figures.searches(d) for d in (1, 2))
    assert len(one.data) == 8 and len({trace.name for trace in one.data}) == 4
    assert [list(figure.data[-1].y) for figure in (one, two)] == [[2.0, 2.5], [2.0, 3.5]]
    assert list(one.data[0].x) == [0, 2]
    assert "fBNN 3.5, exact GP 3.5" in two.layout.meta["summary"]
