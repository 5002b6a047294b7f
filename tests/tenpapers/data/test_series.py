"""Series are cut in time's order and hold what their sources say."""

import math

import pytest

from tenpapers.data import load


@pytest.mark.parametrize(("name", "n"), [("co2", 521), ("airline", 144), ("sunspots", 309)])
def test_parts_follow_one_another_in_time_and_together_are_the_series(name, n):
    data = load(name)
    parts = (data.train, data.validation, data.test)
    assert sum(len(part.y) for part in parts) == n
    assert data.train.x.max() < data.validation.x.min() and data.validation.x.max() < data.test.x.min()
    assert all(part.x.shape == (len(part.y), 1) and part.y.isfinite().all() for part in parts)


def test_known_values():
    airline, co2 = load("airline"), load("co2")
    assert airline.train.x[0].item() == pytest.approx(1949 + 0.5 / 12)
    assert airline.train.y[0].item() == pytest.approx(math.log(112))
    assert co2.train.y[0].item() == pytest.approx((316.1) / 1, abs=1.5)  # the first month has one value
    assert load("sunspots").train.y[1].item() == 11.0


def test_horizon_is_the_length_of_the_test_part_in_years():
    for horizon in (2.0, 5.0):
        x = load("airline", horizon=horizon).test.x
        assert len(x) == 12 * horizon


@pytest.mark.parametrize(("name", "horizon"), [("co2", 0.0), ("airline", 11.0), ("sunspots", -1.0)])
def test_a_horizon_that_leaves_nothing_is_refused(name, horizon):
    with pytest.raises(ValueError, match="horizon"):
        load(name, horizon=horizon)
