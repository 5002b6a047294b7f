"""The papers' claims, checked again: on ridge regression from nnlib, on networks from the recorded runs."""

import json
from functools import lru_cache
from pathlib import Path

import pandas as pd
import pytest
import torch

from nnlib.self_tuning import joint_hessian
from nnlib.self_tuning.tune_ridge import tune
from tenpapers.self_tuning import laptop
from tenpapers.self_tuning.compare import ALL, CONTROL
from tenpapers.self_tuning.ridge import diabetes
from tenpapers.self_tuning.search import METHODS

RESULTS = Path(__file__).parents[3] / "tenpapers" / "results" / "self_tuning.json"
RIDGE = diabetes()
PROBLEMS = list(laptop.BUDGETS)
STUDIED = [cell["problem"] for cell in laptop.STUDIES]
LOSSES = ["validation_loss", "test_loss"]


@lru_cache
def recorded():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def table(name):
    entry = recorded()["tables"][name]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def verdict(claim):
    return recorded()["claims"][claim]["verdict"]


def slug(problem):
    return problem.lower().replace(", ", "-")


def ends(problem):
    """Losses when the budget is spent: one row a method, means over seeds."""
    runs = table("budget")
    runs = runs[(runs.problem == problem) & (runs.cost == runs.groupby("problem").cost.transform("max"))]
    return runs.groupby("method")[LOSSES].mean()


def kinds(problem):
    """Best validation loss of each kind of schedule: means over seeds."""
    runs = table("schedules")
    runs = runs[runs.problem == problem]
    constant = runs[runs.schedule == "constant"].groupby("seed").validation_loss.min().mean()
    rest = runs[runs.schedule != "constant"].groupby("schedule").validation_loss.mean()
    return rest.to_dict() | {"best constant": constant}


def test_the_learned_slope_tends_to_the_jacobian_with_the_square_of_sigma():
    exact = RIDGE.jacobian(RIDGE.optimum())
    errors = [(RIDGE.linear_response(RIDGE.optimum(), s)[1] - exact).norm() / exact.norm() for s in (0.1, 0.2)]
    assert 3.8 < errors[1] / errors[0] < 4.2


def test_ridge_regression_is_a_gated_network():
    gates, components = RIDGE.gates(RIDGE.optimum())
    least_squares = torch.linalg.solve(RIDGE.hessian, RIDGE.moment)
    gated = components.T @ (gates * (components @ least_squares))
    torch.testing.assert_close(gated, RIDGE.best_response(RIDGE.optimum()), rtol=0, atol=1e-12)
    other = RIDGE.gates(RIDGE.optimum() + 0.5)[0]
    assert (other < gates).all()  # a larger penalty closes every gate


def test_without_centring_the_response_is_badly_conditioned():
    values = {c: torch.linalg.eigvalsh(joint_hessian(RIDGE, -6.0, 0.5, centred=c)) for c in (True, False)}
    assert values[False][-1] > 30 * values[True][-1]
    conditions = {c: v[-1] / v[0] for c, v in values.items()}
    assert conditions[False] > 1000 * conditions[True]


@pytest.mark.parametrize("start", [-6.0, 2.0])
def test_delta_stn_finds_the_optimum_of_ridge_regression(start):
    run = tune(RIDGE, "delta", start, hyper_lr=0.05, steps=600)
    assert not run.diverged and abs(run.rows[-1]["lam"] - RIDGE.optimum()) < 0.05 * abs(start - RIDGE.optimum())


@pytest.mark.parametrize("start", [-6.0, 2.0])
def test_stn_diverges_on_ridge_regression_at_the_rates_of_delta_stn(start):
    assert tune(RIDGE, "stn", start, hyper_lr=0.05, steps=300).diverged


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("tuner", ["STN", "Δ-STN"])
def test_a_tuner_is_below_every_search_exactly_where_the_record_says_so(problem, tuner):
    found = ends(problem)
    below = (found.loc[tuner] < found.loc[found.index.isin(METHODS)].min()).all()
    name = f"budget-{tuner}-{slug(problem)}".lower().replace("δ", "delta")
    assert verdict(name) == ("agrees in trend" if below else "disagrees")


@pytest.mark.parametrize("tuner", ["STN", "Δ-STN"])
def test_a_tuner_is_below_the_control_exactly_where_the_record_says_so(tuner):
    below = all((ends(problem).loc[tuner] < ends(problem).loc[CONTROL]).all() for problem in PROBLEMS)
    name = f"control-{tuner}".lower().replace("δ", "delta")
    assert verdict(name) == ("agrees in trend" if below else "disagrees")


def test_length_alone_beats_every_search_on_all_problems_but_one():
    ahead = {p for p in PROBLEMS if (ends(p).loc[CONTROL] < ends(p).loc[ends(p).index.isin(METHODS)].min()).all()}
    assert ahead == set(PROBLEMS) - {"MLP, MNIST"}
    for problem in ("LSTM, words", "LSTM, characters"):
        assert (ends(problem).loc[CONTROL] < ends(problem).loc[["STN", "Δ-STN"]].min()).all()


@pytest.mark.parametrize("problem", PROBLEMS)
def test_delta_stn_is_below_stn_exactly_where_the_record_says_so(problem):
    found = ends(problem)
    below = (found.loc["Δ-STN"] < found.loc["STN"]).all()
    assert verdict(f"delta-{slug(problem)}") == ("agrees in trend" if below else "disagrees")


@pytest.mark.parametrize("problem", STUDIED)
def test_a_tuned_rate_is_better_than_a_constant_exactly_where_the_record_says_so(problem):
    found = kinds(problem)
    better = found["STN"] < min(found[k] for k in ("best constant", "constant with noise", "constant with a wave"))
    assert verdict(f"schedule-{slug(problem)}") == ("agrees in trend" if better else "disagrees")


@pytest.mark.parametrize("problem", STUDIED)
def test_the_replayed_schedule_is_better_exactly_where_the_record_says_so(problem):
    found = kinds(problem)
    better = found["replay of STN"] < min(found["best constant"], found["final value of STN"])
    assert verdict(f"replay-{slug(problem)}") == ("agrees in trend" if better else "disagrees")


def test_on_the_lstm_stn_is_below_every_constant_on_each_seed_and_the_replay_keeps_a_part_of_that():
    runs = table("schedules").query("problem == 'LSTM, words'")
    by_seed = runs.groupby(["seed", "schedule"]).validation_loss.min().unstack()
    assert len(by_seed) == 3
    assert (by_seed["STN"] < by_seed[["constant", "constant with noise", "constant with a wave"]].min(axis=1)).all()
    mean = by_seed.mean()
    assert 0.2 < (mean["constant"] - mean["replay of STN"]) / (mean["constant"] - mean["STN"]) < 1 / 3


@pytest.mark.parametrize("tuner", ["STN", "Δ-STN"])
def test_schedules_meet_exactly_where_the_record_says_so(tuner):
    runs = table("starts")
    last = runs[(runs.variant == tuner) & runs.value.notna()].groupby("start").value.last()
    apart = (last.max() - last.min()) / (last.index.max() - last.index.min())
    name = f"starts-{tuner}".lower().replace("δ", "delta")
    assert verdict(name) == ("agrees in trend" if apart < 0.2 else "disagrees")
    entry = recorded()["claims"][name]["runs"]["laptop"]["ours"]
    assert entry["at the end"] == pytest.approx(last.max() - last.min())


def test_every_run_stayed_within_its_budget_and_no_method_got_less():
    runs = table("budget")
    seeds = runs.groupby(["problem", "method"]).seed.nunique()
    assert seeds.eq(3).all() and set(seeds.index) == {(problem, method) for problem in PROBLEMS for method in ALL}
    assert runs.groupby(["problem", "method", "seed"]).cost.max().groupby("problem").nunique().eq(1).all()
    assert runs.groupby(["problem", "method", "seed"]).validation_loss.apply(lambda x: x.is_monotonic_decreasing).all()
