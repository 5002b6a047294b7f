"""What is measured on several draws: the length at rest, the K-FAC norm with ReLU, the angle of a K-FAC step."""

import pytest
import torch

from tenpapers.weight_decay.identities import curvature_norm, damped_step, matched_runs
from tenpapers.weight_decay.untrained import degrees, one_draw, relu_norm, rest, whitened


def test_the_walk_rests_at_the_predicted_length():
    """Breaks if the first half, which is still on its way, is counted, or the means are of the wrong powers."""
    assert rest(0, steps=2000) == pytest.approx(1, abs=0.01)
    assert rest(0, steps=2000, lr=0.03, weight_decay=0.3) == pytest.approx(1, abs=0.01)


def test_whitened_images_have_mean_0_and_covariance_1():
    x = whitened(torch.rand(40, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(x.mean(0), torch.zeros(9, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(x.T @ x / 40, torch.eye(9, dtype=torch.float64))


def test_long_weights_turn_the_step_and_a_thousand_times_the_damping_does_the_same():
    """Breaks if the angle is not that between step and gradient, or the damping is not the one that was asked for."""
    angles = [degrees(0, c) for c in (0.1, 1.0, 10.0, 1000.0)]
    assert angles == sorted(angles, reverse=True) and angles[0] > 60 and angles[-1] < 0.5
    assert degrees(0, 10.0) == pytest.approx(degrees(0, 1.0, damping=0.1))


def test_a_draw_is_that_of_its_seed():
    first, second = (one_draw(seed, steps=50) for seed in (0, 1))
    assert all(first[name] != second[name] for name in first)
    assert first["relu"] == relu_norm(0) and first["degrees"] == degrees(0, 1.0)
    assert first["degrees_short"] > first["degrees"] > first["degrees_long"]


def test_identities_are_not_zero_whatever_is_compared():
    """Negative control: with its eps, Adam's step does depend on the length of the weights."""
    assert matched_runs("Adam", eps=1e-300) < 1e-12 < 1e-4 < matched_runs("Adam", eps=1e-2)
    assert curvature_norm("K-FAC-F") < 1e-12 and damped_step("exact") < 1e-12
