"""The numbers of the claims on the model: which way round they are, and what they count."""

import numpy as np
import pytest

from nnlib.nqm import HeavyBall, IterateAverage
from tenpapers.nqm import predictions
from tenpapers.nqm.figures.curves import curve


def test_savings_are_sgd_s_steps_over_the_method_s():
    """Breaks if a ratio is upside down or its two ends change places."""
    steps = [curve(name).steps for name in ("SGD", "EMA")]
    assert predictions.saving("EMA") == {
        "at B = 4": steps[0][0] / steps[1][0],
        "at B = 2^20": steps[0][-1] / steps[1][-1],
    }
    assert predictions.saving("EMA")["at B = 4"] > 6
    assert predictions.saving_of_preconditioning()["at B = 2^20"] > 600


def test_best_rates_of_small_batches_have_exponent_one_and_saturate():
    assert all(abs(exponent - 1) < 0.02 for exponent in predictions.exponents().values())
    first = predictions.saturation()
    rate = curve("SGD", 0.25).lr[curve("SGD", 0.25).batch_sizes == first["p = 0.25"]]
    assert rate > 1 and list(first.values()) == sorted(first.values())


def test_pieces_at_the_limit_are_counted_and_the_rest_falls(monkeypatch):
    """On made-up schedules. Breaks if the held pieces belong to those that must fall."""
    schedules = {16: [2.0, 1.99, 1.0, 0.5], 32: [2.0, 1.0, 1.2, 0.5]}
    monkeypatch.setattr(predictions, "best_schedule", lambda batch_size: np.array(schedules[batch_size]))
    assert [predictions.held(b) for b in schedules] == [2, 1] and [predictions.dives(b) for b in schedules] == [
        True,
        False,
    ]


@pytest.mark.parametrize("method", [HeavyBall(0.7, 0.8), IterateAverage(0.7, 0.99)], ids=lambda m: type(m).__name__)
def test_a_wrong_limit_is_seen(method, monkeypatch):
    """The negative control of the two theorems: a limit 1 % too low or too high is told."""
    bound = predictions.theorem_bound

    def scaled(factor):
        def changed(*args):
            risk = bound(*args)
            return type(risk)(risk.bias, factor * risk.variance)

        return changed

    assert max(map(abs, predictions.beside_the_limit(method).values())) < 1e-9
    for factor in (0.99, 1.01):
        monkeypatch.setattr(predictions, "theorem_bound", scaled(factor))
        assert max(map(abs, predictions.beside_the_limit(method).values())) > 1e-3


def test_a_schedule_of_ten_pieces_closes_most_of_the_gap_at_small_batches():
    assert predictions.closed(16) > 0.9 > 0.2 > predictions.closed(4096) > 0
