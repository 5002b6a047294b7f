"""The global threshold: how many go, which, and what each layer keeps."""

import math

import pytest
import torch

from nnlib.eigendamage import choose
from tests.oracles.curvature import draw


def scores(seed=0):
    return {name: draw(n, seed=seed + n).abs() for name, n in (("a", 20), ("b", 7), ("c", 33))}


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_the_lowest_scores_of_all_groups_go(ratio):
    found = scores()
    kept = choose(found, ratio)
    gone = torch.cat([found[name][~kept[name]] for name in found])
    stay = torch.cat([found[name][kept[name]] for name in found])
    assert len(gone) == math.floor(ratio * 60 + 1e-9)
    assert not len(gone) or gone.max() < stay.min()


@pytest.mark.parametrize("cap", [0.0, 0.5, 0.9, 0.95, 0.999])
def test_a_group_keeps_its_highest_scores_up_to_the_cap_and_at_least_one(cap):
    found = {"low": torch.tensor([0.1, 0.4, 0.2, 0.3, 0.5]), "high": torch.tensor([8.0, 9.0, 7.0])}
    kept = choose(found, 0.7, cap=cap)
    stay = max(5 - math.floor(cap * 5), 1)
    assert kept["low"].sum() == stay
    assert found["low"][kept["low"]].min() > max([0.0, *found["low"][~kept["low"]]])


def test_of_equal_scores_exactly_as_many_go_as_asked_for():
    """Breaks with a threshold, which would take all that are equal to it or none."""
    kept = choose({"a": torch.ones(10), "b": torch.ones(10)}, 0.25)
    assert kept["a"].sum() + kept["b"].sum() == 15


def test_normalised_scores_take_alike_from_groups_of_another_scale():
    found = {"a": torch.arange(1.0, 11.0), "b": 1000 * torch.arange(1.0, 11.0)}
    plain, normalised = choose(found, 0.5), choose(found, 0.5, normalise=True)
    assert plain["b"].all() and plain["a"].sum() == 1
    assert normalised["a"].sum() == normalised["b"].sum() == 5


def test_a_share_is_not_lost_to_rounding():
    # 0.29 * 100 is 28.999999999999996.
    assert choose({"a": torch.arange(100.0)}, 0.29)["a"].sum() == 71


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.0}, r"ratio must be a number in \[0, 1\): got 1.0"),
        ({"ratio": -0.1}, r"ratio must be a number in \[0, 1\)"),
        ({"ratio": 0.5, "cap": 1.0}, r"cap must be a number in \[0, 1\)"),
    ],
)
def test_shares_that_would_empty_everything_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        choose(scores(), **options)


def test_a_score_that_is_not_finite_is_refused_with_the_layers_name():
    with pytest.raises(ValueError, match="scores of 'b' must hold finite numbers: got nan"):
        choose({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")])}, 0.5)
