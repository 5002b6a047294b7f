"""Figures of the chapter show what is computed, and every explorer's grid can be drawn."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from nnlib.groupsort import LipschitzMLP
from nnlib.lipschitz import accuracies, certify
from tenpapers.groupsort import figures


def test_the_v_of_a_sorting_network_is_the_absolute_value():
    figure = figures.v_shape("MaxMin", 1)
    drawn, fitted = figure.data[0], figure.data[1]
    near = [i for i, x in enumerate(drawn.x) if abs(x) <= 1]
    assert max(abs(drawn.y[i] - fitted.y[i]) for i in near) < 0.05
    assert "0.99" in figure.layout.meta["summary"] or "1.000" in figure.layout.meta["summary"]


@pytest.mark.parametrize("order", [1, 4])
def test_the_machine_shows_the_plateau_and_the_basin(order):
    figure = figures.bjorck_machine(order, steps=10)
    curve = figure.data[0]
    inside = [y for x, y in zip(curve.x, curve.y, strict=True) if 0.2 < x < 1.3]
    assert all(abs(y - 1) < 0.05 for y in inside)
    assert figures.bjorck_machine(order, steps=0).data[0].y[5] == pytest.approx(curve.x[5], abs=1e-4)


def test_the_spectrum_of_sorting_is_flat():
    figure = figures.spectrum(depth=5, weights="orthogonal")
    by_name = {trace.name: trace.y for trace in figure.data}
    assert all(abs(y - 1) < 1e-6 for y in by_name["MaxMin"])
    assert min(by_name["ReLU"]) < 1e-3


@pytest.mark.parametrize("weights", ["none", "spectral norm", "Björck"])
def test_the_ledger_never_attains_more_than_its_bound(weights):
    figure = figures.ledger("MaxMin", weights, depth=2)
    bound, attained, slopes = figure.data
    assert all(a <= b + 1e-3 for a, b in zip(attained.y, bound.y, strict=True))
    assert slopes.z.max() <= 1


@pytest.mark.parametrize("p", ["1", "2", "∞"])
def test_the_certified_ball_lies_within_the_nearest_change(p):
    for point in range(1, 9):
        figure = figures.certificate_ball(p, point)
        traces = {trace.name: trace for trace in figure.data if trace.name}
        centre = traces["test points"].x[point - 1], traces["test points"].y[point - 1]
        norm = {"1": 1, "2": 2, "∞": math.inf}[p]

        def radius(trace, centre=centre, norm=norm):
            corners = torch.from_numpy(np.array([trace.x, trace.y], dtype=float)).T - torch.tensor(centre)
            return torch.linalg.vector_norm(corners, norm, dim=1)

        certified, change = radius(traces["certified"]), radius(traces["nearest change found"])
        assert certified.max() - certified.min() < 1e-3  # a ball of its norm
        assert 0 < certified.max() < change.min()


def test_static_figures_describe_what_they_are_given():
    frame = pd.DataFrame(
        {"activation": ["ReLU", "MaxMin", "Abs", "FullSort"], "hidden": [1, 1, 1, 1], "estimate": [0.5, 1, 1, 1]}
    )
    assert "ReLU is at 0.500" in figures.ceilings(frame).layout.meta["alt"]
    cones = pd.DataFrame(
        {"activation": ["ReLU", "MaxMin", "GroupSort4", "FullSort"], "dim": [2] * 4, "estimate": [0.6, 0.9, 0.95, 1.0]}
    )
    assert "in dimension 2: FullSort 1.00" in figures.dimensions(cones).layout.meta["alt"]
    critics = {name: LipschitzMLP([2, 4, 1], name, dtype=torch.float64) for name in ("MaxMin", "ReLU")}
    assert len(figures.potentials(critics, (-2.0, 0.0, 2.0)).data) == 3


def test_certified_curves_fall_from_the_clean_accuracy():
    points = figures.toy_points(60)
    model = figures.toy_classifier("2")
    certificate = certify(model, points)
    figure = figures.certified_curves(
        {"MaxMin": certificate}, {"MaxMin": pd.DataFrame(accuracies(model, points, certificate, [0.1]))}
    )
    curve = figure.data[0].y
    assert curve[0] == certificate.clean
    assert list(curve) == sorted(curve, reverse=True)
