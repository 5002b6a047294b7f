"""Searches: one budget for all, what a grid is, when a trial is stopped, what a diverging one costs."""

import math

import pytest

from nnlib.modes import NonFiniteLoss
from tenpapers.self_tuning.search import METHODS, grid_sizes, grid_values, search

BOXES = {"rate": (0.0, 0.9, False), "decay": (1e-4, 1.0, True)}
LOOKS = (10, 20, 30)


def bowl(values, watch):
    for step in LOOKS:
        watch(
            step, {"validation_loss": (values["rate"] - 0.3) ** 2 + math.log10(values["decay"] / 0.01) ** 2 + 1 / step}
        )


@pytest.mark.parametrize("method", METHODS)
def test_no_search_spends_more_than_the_budget_and_none_could_pay_another_trial(method):
    runs = search(method, BOXES, bowl, trials=9, steps=30, seed=1)
    assert runs.cost.max() <= 9 * 30
    if method != "Grid search":
        assert runs.cost.max() > 8 * 30
    assert runs.cost.is_monotonic_increasing
    for name, (low, high, _) in BOXES.items():
        assert runs[name].between(low, high).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_fixes_a_search_and_another_changes_it(method):
    first, second, other = (search(method, BOXES, bowl, trials=6, steps=30, seed=seed) for seed in (0, 0, 1))
    assert first.equals(second) and not first.equals(other)


def test_a_grid_is_complete_and_even_on_each_scale():
    runs = search("Grid search", BOXES, bowl, trials=9, steps=30)
    assert len(runs[["rate", "decay"]].drop_duplicates()) == 9
    assert sorted(runs.rate.unique()) == pytest.approx([0.15, 0.45, 0.75])
    assert grid_values((1e-4, 1.0, True), 2) == pytest.approx([1e-3, 1e-1])


@pytest.mark.parametrize("trials", [1, 5, 8, 12, 30])
def test_grid_sizes_differ_by_at_most_one(trials):
    sizes = grid_sizes(dict.fromkeys("abc"), trials).values()
    assert max(sizes) - min(sizes) <= 1 and math.prod(sizes) <= trials


def test_a_pruned_trial_is_worse_than_the_median_and_leaves_its_steps_to_others():
    pruned = search("Median-pruned search", BOXES, bowl, trials=9, steps=30, seed=2)
    plain = search("Random search", BOXES, bowl, trials=9, steps=30, seed=2)
    ends = pruned.groupby("trial").step.max()
    assert (ends < 30).any() and pruned.trial.nunique() > plain.trial.nunique() == 9
    whole = ends[ends == 30].index
    assert len(whole) >= 4  # none is stopped before there is a median
    for trial in ends[ends < 30].index:
        last = pruned[pruned.trial == trial].iloc[-1]
        finished = pruned[(pruned.trial < trial) & (pruned.step == last.step) & pruned.trial.isin(whole)]
        assert last.validation_loss > finished.validation_loss.median()


def test_bayesian_search_comes_closer_than_chance():
    best = {
        method: sum(search(method, BOXES, bowl, trials=30, steps=30, seed=s).validation_loss.min() for s in range(5))
        for method in ("Bayesian search", "Random search")
    }
    assert best["Bayesian search"] < best["Random search"]


def test_a_diverging_trial_costs_what_it_ran_and_the_search_goes_on():
    def trial(values, watch):
        if values["rate"] > 0.45:
            watch(10, {"validation_loss": 1.0})
            raise NonFiniteLoss(15, math.nan)
        bowl(values, watch)

    runs = search("Random search", BOXES, trial, trials=9, steps=30)
    steps = runs.groupby("trial").step.max()
    assert set(steps) == {10, 30}
    costs = runs.groupby("trial").cost.max()
    first = steps.index[steps == 10][0]
    assert costs[first + 1] - runs[runs.trial == first + 1].step.max() == costs[first] + 5


@pytest.mark.parametrize("bad", [{"method": "x"}, {"trials": 0}, {"steps": 0}])
def test_a_search_that_cannot_be_is_refused(bad):
    options = {"method": "Random search", "trials": 2, "steps": 30} | bad
    with pytest.raises(ValueError, match="must be"):
        search(options.pop("method"), BOXES, bowl, **options)
