"""Critical batch sizes and noise scales: exact on a hyperbola, by definition on the model."""

import math

import numpy as np
import pytest

from nnlib.nqm import (
    SGD,
    HeavyBall,
    IterateAverage,
    NoisyQuadratic,
    StepsCurve,
    critical_batch_size,
    fit_hyperbola,
    gradient_noise_scale,
    perfect_scaling,
    simulate,
    steps_to_target,
)

PROBLEM = NoisyQuadratic()


def hyperbola(floor, critical, batch_sizes):
    """A curve that is an exact hyperbola."""
    batch_sizes = np.asarray(batch_sizes, dtype=float)
    steps = floor * (1 + critical / batch_sizes)
    return StepsCurve(PROBLEM, SGD, 0.01, 0.0, batch_sizes, steps, lr=np.ones_like(steps))


def test_the_fit_finds_an_exact_hyperbola():
    """Breaks when the fit is not in log T or stops early."""
    curve = hyperbola(70.0, 900.0, 2.0 ** np.arange(2, 21))
    fit = fit_hyperbola(curve)
    assert math.isclose(fit.floor, 70, rel_tol=1e-8) and math.isclose(fit.critical, 900, rel_tol=1e-8)
    assert fit.misfit < 1e-8
    np.testing.assert_allclose(fit.steps(curve.batch_sizes), curve.steps, rtol=1e-8)
    assert math.isclose(critical_batch_size(curve, "hyperbola"), 900, rel_tol=1e-8)


def test_doubling_on_a_hyperbola_is_a_quarter_of_its_critical_batch():
    """T(B/2)/T(B) = (B + 2 B_c)/(B + B_c) = 1.8 at B = B_c / 4."""
    curve = hyperbola(70.0, 900.0, 2.0 ** np.arange(0, 21, 0.25))
    assert math.isclose(critical_batch_size(curve, "doubling"), 225, rel_tol=0.01)


def test_doubling_says_when_there_is_nothing_to_see():
    """nan on a flat curve, the end of the range on a perfectly scaling one."""
    assert math.isnan(critical_batch_size(hyperbola(70.0, 1e-6, 2.0 ** np.arange(8)), "doubling"))
    assert critical_batch_size(hyperbola(70.0, 1e9, 2.0 ** np.arange(8)), "doubling") == pytest.approx(128)


@pytest.mark.parametrize(("power", "published"), [(0.0, 899), (0.25, 3280), (0.5, 17_100), (0.75, 105_000)])
def test_asymptotes_of_sgd_cross_where_published(power, published):
    """Perfect-scaling constant over floor; the published floor is in continuous time: one step of it is allowed."""
    curve = steps_to_target(PROBLEM, SGD, [4, 64], 0.01, power)
    critical = critical_batch_size(curve)
    floor = steps_to_target(PROBLEM, SGD, [math.inf], 0.01, power).steps[0]
    assert math.isclose(critical, perfect_scaling(PROBLEM, 0.01, power) / floor, rel_tol=1e-3)
    assert abs(critical / published - 1) < 0.01 + 1 / floor


@pytest.mark.parametrize("definition", ["asymptotes", "doubling", "hyperbola"])
def test_preconditioning_and_momentum_raise_the_critical_batch_and_averaging_lowers_it(definition):
    """The paper's claims, in each definition."""
    batch_sizes = 2.0 ** np.arange(2, 23)

    def critical(kind, power):
        return critical_batch_size(steps_to_target(PROBLEM, kind, batch_sizes, 0.01, power), definition)

    sgd = [critical(SGD, power) for power in (0.0, 0.25, 0.5, 0.75)]
    assert (np.diff(sgd) > 0).all()
    assert critical(HeavyBall, 0.0) > 10 * sgd[0]
    assert critical(IterateAverage, 0.0) < 0.5 * sgd[0]


def test_tougher_targets_move_the_knee_to_larger_batches():
    """In the order of the targets, for SGD."""
    knees = [
        critical_batch_size(steps_to_target(PROBLEM, SGD, [4, 64], target))
        for target in (0.1, 0.03, 0.01, 0.003, 0.001)
    ]
    assert (np.diff(knees) > 0).all()


def test_noise_scales_at_the_start_have_their_closed_form():
    """tr C / tr H² and tr H C / tr H³ when E theta² = 1."""
    h = 1 / np.arange(1.0, 10_001)
    scale = gradient_noise_scale(PROBLEM, SGD(lr=0.1), batch_size=16, steps=0)
    assert math.isclose(scale.simple, h.sum() / (h**2).sum(), rel_tol=1e-12)
    assert math.isclose(scale.curvature, (h**2).sum() / (h**3).sum(), rel_tol=1e-12)


def test_the_simple_noise_scale_is_noise_over_signal_of_sampled_gradients():
    """Breaks with a forgotten weight, half or batch size: the same ratio from sampled iterates of one mode."""
    problem, method = NoisyQuadratic.from_spectrum([0.5], c=2.0, s0=3.0), SGD(lr=0.4)
    losses = simulate(problem, method, batch_size=4, steps=3, runs=200_000, seed=0)
    signal = (2 * losses / 0.5).mean() * 0.5**2  # h² E theta²
    scale = gradient_noise_scale(problem, method, batch_size=4, steps=3)
    assert math.isclose(scale.simple, 2.0 / float(signal), rel_tol=0.02)


def test_noise_scales_rise_along_a_run_to_the_target():
    """The signal shrinks, the noise stays."""
    curve = steps_to_target(PROBLEM, SGD, [256], 0.01)
    scale = gradient_noise_scale(PROBLEM, curve.method(0), 256, np.linspace(0, curve.steps[0], 12).round())
    assert scale.simple.shape == (12,)
    assert scale.simple[-1] > 50 * scale.simple[0] and scale.curvature[-1] > 50 * scale.curvature[0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: critical_batch_size(hyperbola(1, 1, [1, 2, 4, 8]), "knee"),
        lambda: fit_hyperbola(hyperbola(1, 1, [1, 2, 4])),
        lambda: critical_batch_size(hyperbola(1, 1, [1, 2, 2, 4]), "doubling"),
        lambda: gradient_noise_scale(PROBLEM, SGD(1.0), 0, 1),
    ],
)
def test_bad_input_is_a_clear_error(call):
    """Each message holds the value."""
    with pytest.raises(ValueError, match="got"):
        call()
