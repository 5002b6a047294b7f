"""The rules of verdict: what stands, what is contradicted, and what is left undecided."""

import math

import pytest

from tenpapers.claims import Deterministic, Direction, Equal, Exact, Figure, Sample, Threshold
from tenpapers.claims.rules import AGREES, DISAGREES, TREND, UNDECIDED, VERDICTS

WIDE = Sample((-1.0, 1.0))  # mean 0, standard error 1


def around(mean, error=0.1):
    """A sample of two with this mean and standard error."""
    return Sample((mean - error, mean + error))


def verdict(rule, tested, paper=None, same=False):
    return rule.judge(tested if isinstance(tested, dict) else {"x": tested}, paper or {}, same).verdict


def test_a_sample_has_the_standard_error_of_its_mean():
    assert around(2.0, 0.5).mean == 2.0 and around(2.0, 0.5).error == pytest.approx(0.5)
    assert Sample((1.0, 2.0, 3.0, 4.0)).error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert Sample((1.0,)).error == math.inf


def test_overlapping_splits_make_a_mean_less_sure():
    """Nadeau and Bengio: the variance of the mean is s² (1/n + test/train), not s²/n."""
    values = (1.0, 2.0, 4.0, 5.0)
    independent, overlapping = Sample(values), Sample(values, overlap=1 / 9)
    assert overlapping.error**2 == pytest.approx(independent.error**2 + (1 / 9) * 10 / 3)


@pytest.mark.parametrize("values", [(), (1.0, math.nan), (math.inf,)])
def test_a_sample_of_nothing_or_of_what_is_not_finite_is_refused(values):
    with pytest.raises(ValueError, match="at least one value, all finite"):
        Sample(values)


def test_differences_are_taken_seed_by_seed():
    assert (Sample((3.0, 5.0)) - Sample((1.0, 4.0))).values == (2.0, 1.0)
    with pytest.raises(ValueError, match="one value for each seed"):
        Sample((1.0, 2.0)) - Sample((1.0,))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (around(0.21), TREND),  # 0.21 is beyond two errors of 0.1
        (around(0.19), UNDECIDED),
        (around(-0.19), UNDECIDED),
        (around(-0.21), DISAGREES),
        (Sample((5.0,)), UNDECIDED),  # one run
        (Sample((-5.0,)), UNDECIDED),
        (0.001, TREND),  # computed: no error
        (-0.001, DISAGREES),
        ({"a": around(1.0), "b": around(0.1)}, UNDECIDED),
        ({"a": around(1.0), "b": around(-1.0)}, DISAGREES),
        ({"a": around(1.0), "b": WIDE, "c": around(-1.0)}, DISAGREES),
    ],
)
def test_a_direction_holds_beyond_two_standard_errors_and_is_contradicted_beyond_two_on_the_other_side(value, expected):
    assert verdict(Direction(), value) == expected
    assert verdict(Direction(), value, same=True) == (AGREES if expected == TREND else expected)


def test_a_direction_on_other_data_is_a_trend_at_most():
    assert verdict(Direction(), around(9.0), same=False) == TREND
    assert verdict(Direction(), around(9.0), same=True) == AGREES


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (Threshold(above=2.0), around(2.3), TREND),
        (Threshold(above=2.0), around(2.1), UNDECIDED),
        (Threshold(above=2.0), around(1.7), DISAGREES),
        (Threshold(below=2.0), around(1.7), TREND),
        (Threshold(below=2.0), around(2.3), DISAGREES),
    ],
)
def test_a_threshold_is_met_beyond_two_standard_errors(rule, value, expected):
    assert verdict(rule, value) == expected


@pytest.mark.parametrize("bounds", [{}, {"above": 1.0, "below": 2.0}])
def test_a_threshold_has_one_bound(bounds):
    with pytest.raises(ValueError, match="one of above and below"):
        Threshold(**bounds)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (around(0.2), TREND),  # 0.2 + 0.2 within 0.5
        (around(-0.2), TREND),
        (around(0.4), UNDECIDED),
        (around(0.8), DISAGREES),
        (around(-0.8), DISAGREES),
        (WIDE, UNDECIDED),
        (Sample((0.0,)), UNDECIDED),
        (0.5, TREND),
    ],
)
def test_equal_needs_the_number_and_its_error_within_the_margin(value, expected):
    assert verdict(Equal(0.5), value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (around(10.1), AGREES),  # within two errors, and those below the margin of 1
        (around(10.35), AGREES),  # within the reading error of 0.4
        (around(10.5), DISAGREES),
        (around(9.5), DISAGREES),
        (around(10.0, 0.6), UNDECIDED),  # right, and not sure: two errors are 1.2
        (Sample((10.0,)), UNDECIDED),
        (Sample((90.0,)), UNDECIDED),
    ],
)
def test_a_figure_needs_nearness_and_power(value, expected):
    rule = Figure(margin=1.0, reading=0.4)
    assert verdict(rule, value, {"x": 10.0}, same=True) == expected
    assert verdict(rule, value, {"x": 10.0}, same=False) == UNDECIDED


def test_a_figure_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match="missing for x"):
        Figure(1.0, 0.1).judge({"x": around(1.0)}, {"y": 1.0}, True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1e-10, AGREES), (-1e-10, AGREES), (1e-8, DISAGREES), (True, AGREES), (False, DISAGREES), (math.nan, DISAGREES)],
)
def test_exact_holds_within_its_tolerance_on_any_data(value, expected):
    assert verdict(Exact(1e-9), value) == expected


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (Deterministic(0.01), 101.0, AGREES),
        (Deterministic(0.01), 102.0, DISAGREES),
        (Deterministic(0.01, relative=False), 100.02, DISAGREES),
        (Deterministic(0.0), 100, AGREES),
        (Deterministic(0.0), 100.0000001, DISAGREES),
        (Deterministic(0.01), math.nan, DISAGREES),
    ],
)
def test_a_computed_number_is_near_the_papers(rule, value, expected):
    assert verdict(rule, value, {"x": 100.0}) == expected


@pytest.mark.parametrize("rule", [Exact(), Deterministic(0.1)])
def test_what_was_measured_is_never_exact(rule):
    with pytest.raises(ValueError, match="x was measured"):
        rule.judge({"x": around(0.0)}, {"x": 0.0}, True)


@pytest.mark.parametrize("rule", [Direction(), Equal(1.0), Threshold(above=0.0)])
def test_what_is_not_finite_is_not_judged(rule):
    with pytest.raises(ValueError, match="finite"):
        rule.judge({"x": math.nan}, {}, True)


@pytest.mark.parametrize("rule", [Direction(), Equal(1.0), Threshold(above=0.0), Exact(), Deterministic(0.1)])
def test_nothing_tested_is_an_error_and_not_an_agreement(rule):
    with pytest.raises(ValueError, match="nothing"):
        rule.judge({}, {}, True)


@pytest.mark.parametrize("rule", [Direction(), Equal(1.0), Figure(1.0, 0.1), Threshold(above=2), Exact(), Exact(0)])
def test_every_rule_says_itself_in_words(rule):
    assert rule.words and not set(VERDICTS) & {rule.words}
