"""Which searches are no baseline? Those that could not search: the evidence refuses them, and no verdict follows."""

from types import SimpleNamespace

import pandas as pd
import pytest

from tenpapers.claims import Unfair
from tenpapers.runs import NotRun
from tenpapers.self_tuning import claims
from tenpapers.self_tuning.measure import ALL, VARIANTS
from tenpapers.self_tuning.search import METHODS, STARTUP

CLAIM = claims.budget_stn_mlp_digits


def made_up(monkeypatch, trials=STARTUP + 4, change=lambda frame: frame):
    """A table in which both tuners are far ahead of four different searches, and what is changed of it."""
    rows = [
        {"problem": "MLP, digits", "method": method, "seed": seed, "cost": cost}
        | {key: (0.1 if method in VARIANTS else 0.3 + 0.05 * number) + 0.01 * seed for key in claims.LOSSES.values()}
        for number, method in enumerate(ALL)
        for seed in range(3)
        for cost in (40, 80)
    ]
    frame = change(pd.DataFrame(rows))
    table = SimpleNamespace(
        read=lambda profile, problem: frame[frame.problem == problem],
        declared=lambda profile: [{"problem": "MLP, digits", "trials": trials}],
        how=lambda profile: "",
    )
    monkeypatch.setattr(claims, "runs", SimpleNamespace(budget=table))


def evidence():
    return CLAIM.evidence("laptop")


def test_searches_that_searched_are_compared_seed_by_seed(monkeypatch):
    made_up(monkeypatch)
    found = evidence()
    assert set(found.tested) == {f"{method} ({loss})" for method in METHODS for loss in claims.LOSSES}
    assert CLAIM.rule.judge(found.tested, {}, same=False).verdict == "agrees in trend"


@pytest.mark.parametrize("trials", [STARTUP - 1, STARTUP])
def test_a_budget_that_pays_for_the_start_up_alone_is_refused(trials, monkeypatch):
    made_up(monkeypatch, trials=trials)
    with pytest.raises(Unfair, match=f"{trials} trials, two of the searches begin after {STARTUP}"):
        evidence()


def test_two_searches_that_are_one_run_are_refused(monkeypatch):
    def twins(frame):
        losses = list(claims.LOSSES.values())
        of = {method: frame.method == method for method in METHODS}
        frame.loc[of["Median-pruned search"], losses] = frame.loc[of["Random search"], losses].to_numpy()
        return frame

    made_up(monkeypatch, change=twins)
    with pytest.raises(Unfair, match="Random search and Median-pruned search are one and the same run"):
        evidence()


def test_a_search_that_ends_at_chance_for_one_seed_is_refused(monkeypatch):
    def lost(frame):
        frame.loc[(frame.method == "Grid search") & (frame.seed == 1), "test_loss"] = 2.29  # ln 10 is 2.303
        return frame

    made_up(monkeypatch, change=lost)
    with pytest.raises(Unfair, match="Grid search, probability of the right class ended at"):
        evidence()


def test_a_method_that_was_given_less_is_refused(monkeypatch):
    made_up(monkeypatch, change=lambda frame: frame[(frame.method != "Grid search") | (frame.cost < 80)])
    with pytest.raises(Unfair, match="training steps charged: Grid search 40"):
        evidence()


def test_only_seeds_at_which_every_method_was_run_are_compared(monkeypatch):
    made_up(monkeypatch, change=lambda frame: frame[(frame.method != "STN") | (frame.seed < 2)])
    assert evidence().ours["validation"].n == 2
    made_up(monkeypatch, change=lambda frame: frame[frame.method != "STN"])
    with pytest.raises(NotRun, match="no seed"):
        evidence()
