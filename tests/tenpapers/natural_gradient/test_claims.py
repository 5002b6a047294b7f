"""The chapter's claims on trained networks, checked on the recorded runs; the chapter repeats one of them live."""

import json
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from tenpapers.natural_gradient import PROBLEMS, measure_run

DATA = {"sphere": 24, "digits": 100, "mnist": 100}


@lru_cache
def recorded(name):
    """A recorded table, as the chapter reads it."""
    record = json.loads(
        (Path(__file__).resolve().parents[3] / "tenpapers" / "results" / "natural_gradient.json").read_text()
    )
    table = record["tables"][name]["laptop"]
    return pd.DataFrame(table["rows"], columns=table["columns"])


def medians(data, method, lr, column):
    """Medians over seeds, by width."""
    runs = recorded("runs").query("data == @data and method == @method and lr == @lr")
    return runs.groupby("width")[column].median()


def slope(series):
    """Power of the width between the narrowest and the widest network."""
    ratio = torch.tensor([series.iloc[-1] / series.iloc[0], series.index[-1] / series.index[0]]).log()
    return float(ratio[0] / ratio[1])


@pytest.mark.parametrize("data", DATA)
def test_smallest_eigenvalue_approaches_its_limit(data):
    """Breaks if the recorded networks are compared with another limit than their own."""
    drift = medians(data, "Natural gradient", 0.3, "drift")
    assert (drift.diff().dropna() < 0).all() and drift.iloc[-1] < 0.03 < drift.iloc[0] / 4


@pytest.mark.parametrize("data", DATA)
def test_jacobian_is_more_stable_in_wider_networks_and_not_stable_enough_for_the_theorem(data):
    """Falls as m^(-1/4) to m^(-1/2), and is above 1/2 in every run: the theorem covers none of them."""
    constant = medians(data, "Natural gradient", 0.3, "constant")
    assert -0.6 < slope(constant) < -0.2 and (constant.diff().dropna() < 0).all()
    assert recorded("runs").constant.min() > 0.5


def test_rate_of_the_theorem_holds_in_every_recorded_run():
    """45 runs. The same is false of gradient descent, with the step that suits it best: the negative control."""
    runs = recorded("runs")
    assert runs[(runs.method == "Natural gradient") & (runs.lr == 0.3)].within.all()
    assert not runs[runs.method == "GD"].within.any()


@pytest.mark.parametrize("data", DATA)
def test_rate_of_the_linearised_network_is_approached_as_the_width_grows(data):
    """0.7 a step within half a percent at the largest width."""
    slowest = medians(data, "Natural gradient", 0.3, "slowest")
    assert (slowest >= 0.7).all() and slowest.iloc[-1] < 0.7035


@pytest.mark.parametrize("data", DATA)
def test_one_step_with_lr_one_leaves_less_in_wider_networks(data):
    first = medians(data, "Natural gradient", 1.0, "first")
    assert (first.diff().dropna() < 0).all() and first.iloc[-1] < 0.04 and slope(first) < -0.3


@pytest.mark.parametrize("data", DATA)
def test_weights_move_less_in_wider_networks(data):
    """As one over the root of the width."""
    assert -0.6 < slope(medians(data, "Natural gradient", 0.3, "movement")) < -0.4


def test_conditioning_hurts_gradient_descent_more_than_the_natural_gradient():
    """Ten times the angle costs gradient descent nearly all progress on the pair; the natural gradient keeps most."""
    table = recorded("conditioning")
    left = table[table.width == table.width.max()].groupby(["method", "gap"])["pair"].median()
    assert left["GD", 0.1] > 3 * left["GD", 1.0] and left["GD", 0.1] > 0.85
    assert left["Natural gradient", 0.1] < 0.1
    assert left["Natural gradient", 1.0] == pytest.approx(0.7**12, rel=0.05)


def test_the_natural_gradient_too_is_slow_on_the_pair_where_the_width_does_not_suffice():
    """The limits of the claim above: at the smallest angle, and at a smaller angle the sooner the narrower."""
    table = recorded("conditioning")
    left = table[table.method == "Natural gradient"].groupby(["width", "gap"])["pair"].median()
    assert (left.xs(0.01, level="gap") > 0.5).all()
    by_width = left.xs(0.1, level="gap").sort_index()
    assert (by_width.diff().dropna() < 0).all()


@pytest.mark.parametrize("data", DATA)
def test_kfac_is_within_its_bound_in_wide_networks(data):
    """1 - 1 / lambda_max(X'X) for each step of |u - y|, at the largest width, in every recorded run."""
    runs = recorded("runs").query("data == @data and method == 'K-FAC'")
    for row in runs[runs.width == runs.width.max()].itertuples():
        x = PROBLEMS[data](row.n, row.seed).x
        assert row.slowest < 1 - 1 / float(torch.linalg.eigvalsh(x.T @ x)[-1])


def test_kfac_moves_the_weights_far_where_inputs_are_badly_conditioned():
    """On the digits a hundred times as far as the natural gradient, on the sphere about twice as far."""
    ratio = {
        data: (medians(data, "K-FAC", 1.0, "movement") / medians(data, "Natural gradient", 1.0, "movement")).iloc[-1]
        for data in DATA
    }
    assert ratio["digits"] > 100 and 1.2 < ratio["sphere"] < 4


def test_complexity_orders_pairs_of_digits_by_their_test_error():
    table = recorded("pairs")
    pairs = table[table.n == table.n.min()]
    assert len(pairs) == 45
    assert spearmanr(pairs.complexity, pairs.kernel_error).statistic > 0.5
    bound = table[table.n == table.n.max()]
    assert (bound.kernel_error < bound.bound).all() and (bound.bound < 0.8).all()


def test_flipped_labels_raise_complexity_and_test_error():
    table = recorded("noise")
    by_share = table.groupby("share")[["complexity", "network_error", "kernel_error"]].median()
    assert (by_share.diff().dropna() > 0).all().all() and (table.left < 0.001).all()


def test_a_recorded_run_is_what_nnlib_computes():
    """Breaks if the record is of other code: two of its rows again."""
    runs = recorded("runs")
    for method, lr in (("Natural gradient", 0.3), ("GD", 1.0)):
        row = runs.query("data == 'digits' and method == @method and lr == @lr and width == 256 and seed == 1").iloc[0]
        again = measure_run("digits", 100, method, 256, lr, 12, seed=1)
        for column in ("first", "slowest", "movement", "constant", "limit", "detour"):
            assert again[column] == pytest.approx(row[column], rel=1e-6), column
