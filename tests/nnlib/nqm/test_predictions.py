"""What the model predicts of momentum, preconditioning, averaging, schedules and learning rates: the paper's claims."""

from functools import lru_cache

import numpy as np
import pytest

from nnlib.nqm import (
    SGD,
    HeavyBall,
    IterateAverage,
    NoisyQuadratic,
    critical_batch_size,
    examples_lower_bound,
    optimal_schedule,
    perfect_scaling,
    steps_to_target,
)

PROBLEM = NoisyQuadratic()
BATCH_SIZES = 2.0 ** np.arange(2, 21, 2)
POWERS = (0.0, 0.25, 0.5, 0.75)


@lru_cache
def curve(kind, power=0.0, target=0.01):
    return steps_to_target(PROBLEM, kind, BATCH_SIZES, target, power)


@pytest.mark.parametrize("power", POWERS)
def test_momentum_saves_little_at_small_batches_and_much_at_large_ones(power):
    """Breaks if momentum's search stops at a bad optimum at either end."""
    saving = curve(SGD, power).steps / curve(HeavyBall, power).steps
    assert 1.1 < saving[0] < 1.3
    assert saving[-1] > 2
    assert saving[:4].max() < 1.3


def test_effective_learning_rates_of_momentum_and_sgd_agree_at_small_batches_only():
    """Breaks if lr and lr / (1 - momentum) are mixed up."""
    ratio = curve(HeavyBall).effective_lr / curve(SGD).lr
    assert abs(ratio[0] - 1) < 0.1
    assert ratio[-1] > 20


def test_preconditioning_helps_at_every_batch_size_and_raises_the_critical_one():
    """Breaks if the power enters the noise or the curvature with the wrong sign."""
    steps = np.stack([curve(SGD, power).steps for power in POWERS])
    assert (np.diff(steps, axis=0) < 0).all()
    assert (np.diff([critical_batch_size(curve(SGD, power)) for power in POWERS]) > 0).all()


@pytest.mark.parametrize("power", POWERS)
def test_averaging_helps_at_small_batches_and_not_at_large_ones(power):
    """Breaks if the average's decay does not go to zero where there is no noise."""
    saving = curve(SGD, power).steps / curve(IterateAverage, power).steps
    assert saving[0] > 1.3
    assert 1 <= saving[-1] < 1.02
    assert critical_batch_size(curve(IterateAverage, power)) < critical_batch_size(curve(SGD, power))


def test_best_learning_rate_is_proportional_to_the_batch_size_and_then_saturates_later_with_more_preconditioning():
    """Breaks if the search does not reach the stability limit, as a grid in log lr does not."""
    saturated = []
    for power in POWERS:
        tuned = curve(SGD, power)
        slope = np.polyfit(np.log(BATCH_SIZES[:3]), np.log(tuned.lr[:3]), 1)[0]
        assert abs(slope - 1) < 0.02
        assert 1.7 < tuned.lr[-1] < 2
        saturated.append(BATCH_SIZES[np.argmax(tuned.lr > 1)])
    assert sorted(saturated) == saturated and saturated[-1] > 10 * saturated[0]


def test_harder_targets_move_the_bend_to_larger_batches():
    """Breaks if the target enters the table of B_min wrongly."""
    knees = [critical_batch_size(curve(SGD, 0.0, target)) for target in (0.1, 0.01, 0.001)]
    assert knees[1] > 5 * knees[0] and knees[2] > 5 * knees[1]


def test_best_schedule_holds_at_the_limit_and_ends_at_a_rate_proportional_to_the_batch_size():
    """Breaks if L-BFGS stops early: the number of pieces at the limit is sensitive."""
    held, last = [], []
    for batch_size in (16, 32, 64, 128, 256):
        lrs = np.array(optimal_schedule(PROBLEM, batch_size, 0.01, pieces=50).lrs)
        assert (np.diff(lrs[np.argmax(lrs < 0.99 * lrs.max()) :]) < 0).all()
        held.append(int((lrs > 0.99 * lrs.max()).sum()))
        last.append(lrs[-1])
    assert held == [5, 12, 22, 34, 42]
    np.testing.assert_allclose(np.array(last) / last[0], [1, 2, 4, 8, 16], rtol=0.25)


def test_ten_pieces_close_most_of_the_gap_to_the_bound_at_small_batches_and_hardly_any_at_large_ones():
    """Breaks if the schedule is not optimised, or the bound is not one."""
    closed = []
    for batch_size in (16, 4096):
        bound = examples_lower_bound(PROBLEM, 0.01) / batch_size
        constant = steps_to_target(PROBLEM, SGD, [batch_size], 0.01).steps[0]
        closed.append((constant - optimal_schedule(PROBLEM, batch_size, 0.01, pieces=10).steps) / (constant - bound))
    assert closed[0] > 0.9 and 0 < closed[1] < 0.2


def test_full_preconditioning_needs_more_examples_than_three_quarters():
    """Breaks if the noise of the flat directions is not multiplied by 1/h."""
    price = [perfect_scaling(PROBLEM, 0.01, power) for power in (0.5, 0.75, 1.0)]
    assert price[1] < price[2] < price[0]


def test_averaged_sgd_needs_nearly_the_same_examples_at_small_batches_whatever_the_preconditioner():
    """Breaks if the average does not take over what preconditioning does for the noise."""
    plain = np.array([curve(SGD, power).steps[0] for power in POWERS])
    averaged = np.array([curve(IterateAverage, power).steps[0] for power in POWERS])
    assert averaged.max() / averaged.min() < 1.2 and plain.max() / plain.min() > 5


@pytest.mark.parametrize("kind", [SGD, HeavyBall, IterateAverage])
def test_doubling_the_batch_halves_the_steps_at_first_and_saves_nothing_in_the_end(kind):
    """Breaks if the variance is not divided by the batch size, or the bias is."""
    steps = steps_to_target(PROBLEM, kind, [4, 8, 2**19, 2**20], 0.01).steps
    assert 1.9 < steps[0] / steps[1] <= 2.01 and 1 <= steps[2] / steps[3] < 1.05
