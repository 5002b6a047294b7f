"""What is compared with what: on rows made up for it, so that every answer is known."""

import pandas as pd
import pytest

from tenpapers.claims import Direction, Sample, Unfair
from tenpapers.noisy_ekfac import comparisons as c


def row(variant, split=0, **values):
    method, _, damping = variant.partition(", exact")
    usual = {"data": "boston", "kl_weight": 1.0, "kl": 100.0, "rmse": 3.0, "log_likelihood": -2.0, "validation": -2.0}
    kind = {"damping_kind": "exact" if damping or method == c.EKFAC else "factored", "on_basis_change": None}
    return usual | kind | {"method": method, "split": split} | values


def test_better_is_positive_in_both_measures():
    """Breaks if the sign of the error is that of the likelihood."""
    rows = [row(c.EKFAC, s, rmse=2.0 - s, log_likelihood=-1.0) for s in (0, 1)] + [row(c.KFAC, s) for s in (0, 1)]
    found = c.better(c.with_variant(pd.DataFrame(rows)), c.EKFAC, c.KFAC)
    assert found["boston, error"].values == (1.0, 2.0) and found["boston, log likelihood"].values == (1.0, 1.0)
    assert found["boston, error"].overlap == c.OVERLAP


def test_at_equal_kl_takes_the_warmest_that_is_not_farther_from_the_prior(monkeypatch):
    rows = [row(c.KFAC, s, kl=100.0, rmse=3.0) for s in (0, 1)]
    for tau, kl, rmse in ((1.0, 50.0, 5.0), (0.5, 90.0, 2.5), (0.2, 150.0, 1.0)):
        rows += [row(c.EKFAC, s, kl_weight=tau, kl=kl, rmse=rmse) for s in (0, 1)]
    frame = pd.DataFrame(rows)
    monkeypatch.setattr(c.runs.uci.__class__, "read", lambda *_, **__: frame)
    assert c.at_equal_kl("laptop").ours["boston, error"].values == (0.5, 0.5)
    frame.loc[frame.method == c.EKFAC, "kl"] = 101.0
    with pytest.raises(Unfair, match="farther from the prior"):
        c.at_equal_kl("laptop")


def test_a_temperature_is_chosen_for_each_split_by_what_was_held_out_and_never_by_the_test():
    rows = [
        row(c.EKFAC, s, kl_weight=t, validation=v, rmse=r)
        for s, t, v, r in ((0, 1.0, -1.0, 9.0), (0, 0.5, -2.0, 1.0), (1, 1.0, -3.0, 1.0), (1, 0.5, -2.5, 9.0))
    ]
    assert list(c.chosen(c.with_variant(pd.DataFrame(rows))).rmse) == [9.0, 9.0]


def test_a_set_with_a_temperature_missing_is_not_chosen_from():
    """Breaks if a method that has run at one temperature only is compared as if that had been chosen."""
    rows = [row(v, kl_weight=tau) for v in (c.EKFAC, c.KFAC) for tau in c.runs.COOLED["boston"]]
    rows += [row(v, data="concrete") for v in (c.EKFAC, c.KFAC)]
    assert set(c.complete(c.with_variant(pd.DataFrame(rows))).data) == {"boston"}
    assert c.complete(c.with_variant(pd.DataFrame(rows[1:]))).empty


def test_a_set_that_was_not_run_leaves_a_claim_undecided_and_does_not_hide_a_contradiction():
    for sign in (1, -1):
        shown = {"yacht": Sample((sign * 1.0, sign * 1.1, sign * 1.2))}
        waits = c.waiting(shown, ("yacht", "wine"))
        assert list(waits) == ["wine (not run yet)"]
        alone, together = (Direction().judge(numbers, {}, True).verdict for numbers in (shown, shown | waits))
        assert (together == alone) == (sign < 0)


def test_the_error_of_deviations_is_in_logarithms_and_zero_for_the_reference_itself():
    assert c.deviation_error("hmc", "hmc").mean == 0.0
    one, other = c.deviation_error("Noisy Adam", "hmc"), c.deviation_error("fisher", "hmc")
    assert one.n == 10 and one.mean > other.mean > 0
