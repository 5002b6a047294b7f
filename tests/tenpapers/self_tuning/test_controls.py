"""Schedules that look for nothing: noise that stays in its range, a wave about a value."""

import pytest

from tenpapers.self_tuning.controls import noisy, sinusoid


def test_noise_has_its_scale_and_stays_inside_the_range():
    free, held = (noisy({"rate": 0.02}, 0.05, 0, {"rate": ends}) for ends in ((-9.0, 9.0), (0.0, 0.9)))
    drawn = [free(step)["rate"] for step in range(2000)]
    mean = sum(drawn) / len(drawn)
    assert mean == pytest.approx(0.02, abs=0.005)
    assert (sum((x - mean) ** 2 for x in drawn) / len(drawn)) ** 0.5 == pytest.approx(0.05, rel=0.1)
    kept = [held(step)["rate"] for step in range(2000)]
    assert min(kept) == 0.0 and kept == [min(max(x, 0.0), 0.9) for x in drawn]


def test_a_wave_comes_back_after_its_period():
    wave = sinusoid({"rate": 0.5}, 0.1, 40)
    assert [wave(step)["rate"] for step in (0, 10, 20, 30, 40)] == pytest.approx([0.5, 0.6, 0.5, 0.4, 0.5])
