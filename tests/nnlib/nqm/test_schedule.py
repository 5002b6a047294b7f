"""Does `optimal_schedule` come back from every admissible input? By work that is counted, not by a clock."""

import math

import numpy as np
import pytest

from nnlib.nqm import NoisyQuadratic, Schedule, expected_risk, optimal_schedule, rates, schedule

PROBLEM = NoisyQuadratic()
LARGE, VAST = NoisyQuadratic(10**9), NoisyQuadratic(10**15)
STEEP_NOISE = NoisyQuadratic(10_000, noise_exponent=10.0)
STEEP = NoisyQuadratic(1000, curvature_exponent=20.0)
FLAT_NOISE = NoisyQuadratic(100, noise_exponent=-2.0)
WIDE = NoisyQuadratic.from_spectrum([1e100, 1.0, 1e-100], c=1.0)


def of(problem, share):
    """A target as a share of the risk at the start."""
    return share * problem.initial_risk


# The most work of 2,800 extremes: dimensions, exponents, batch sizes, targets, pieces and powers at their ends.
FAR = {
    "small target, ten pieces": (PROBLEM, 4, 1e-5, 10, 0.0),
    "small target": (PROBLEM, 4, 1e-4, 50, 0.0),
    "smaller target": (PROBLEM, 256, 1e-9, 50, 0.0),
    "a thousandth of an example": (PROBLEM, 1e-3, 0.01, 5, 0.0),
    "a millionth": (PROBLEM, 1e-6, 0.01, 50, 0.0),
    "no noise": (PROBLEM, math.inf, 1e-5, 50, 0.0),
    "no noise, preconditioned": (PROBLEM, math.inf, 0.01, 50, 1.0),
    "one step": (PROBLEM, 64, 4.89, 50, 0.0),
    "one step, most pieces": (PROBLEM, 2.0**20, 4.8, 200, 0.0),
    "one piece": (PROBLEM, 1e-3, 0.01, 1, 0.0),
    "most pieces": (PROBLEM, 64, 0.01, 200, 0.0),
    "most pieces, small target": (PROBLEM, 1e-3, 1e-5, 200, 0.0),
    "preconditioned": (PROBLEM, 1e-3, 1e-3, 20, 1.0),
    "a large spectrum": (LARGE, 64, 0.01, 20, 0.0),
    "a large one, preconditioned": (LARGE, 64, of(LARGE, 1e-3), 50, 1.0),
    "a large one, much noise": (LARGE, 1e-3, of(LARGE, 0.5), 50, 1.0),
    "a large one, hardly any noise": (LARGE, 1e30, of(LARGE, 2e-20), 200, 0.0),
    "a vast one, hardly any noise": (VAST, 1e30, of(VAST, 2e-20), 200, 0.5),
    "a large one, near the start": (LARGE, 1e3, of(LARGE, 1 - 2e-6), 50, 1.0),
    "noise in flat directions": (FLAT_NOISE, 1, 1e-3, 50, 0.0),
    "noise in steep directions": (STEEP_NOISE, 1e5, of(STEEP_NOISE, 1e-14), 200, 0.5),
    "steep": (STEEP, 1e5, of(STEEP, 1e-8), 200, 0.0),
    "from 1e100 to 1e-100": (WIDE, 64, of(WIDE, 0.5), 50, 0.0),
    "one mode": (NoisyQuadratic(1), 1e-3, 1e-3, 20, 0.0),
    "one mode, no noise": (NoisyQuadratic(1), math.inf, 1e-3, 50, 0.0),
}


@pytest.fixture
def work(monkeypatch):
    """Evaluations of a risk, and learning rates x modes in them: all that takes time."""
    done = {"evaluations": 0, "numbers": 0}
    log_risk, exact = rates.log_risk, schedule.expected_risk

    def count(pieces, modes):
        done["evaluations"] += 1
        done["numbers"] += pieces * modes

    def counted_log_risk(spectrum, batch_size, power, k, log_lrs):
        count(log_lrs.size, spectrum.h.size)
        return log_risk(spectrum, batch_size, power, k, log_lrs)

    def counted_risk(problem, method, steps):
        count(len(method.lrs), problem.h.size)
        return exact(problem, method, steps)

    monkeypatch.setattr(rates, "log_risk", counted_log_risk)
    monkeypatch.setattr(schedule, "log_risk", counted_log_risk)
    monkeypatch.setattr(schedule, "expected_risk", counted_risk)
    optimal_schedule(PROBLEM, 256, 0.01)
    usual = dict(done)
    done.update(evaluations=0, numbers=0)
    return done, usual


@pytest.mark.parametrize("case", FAR)
def test_an_optimal_schedule_takes_at_most_twenty_times_the_usual_work_and_is_the_shortest(case, work):
    """Breaks with one step more at a time after the search, a start far away, or tuning without an end."""
    problem, batch_size, target, pieces, power = FAR[case]
    found = optimal_schedule(problem, batch_size, target, pieces, power)
    done, usual = work
    assert 0 < done["evaluations"] <= 20 * usual["evaluations"]
    assert 0 < done["numbers"] <= 20 * usual["numbers"]
    assert expected_risk(problem, found, found.steps).at(batch_size) < target
    fewer = found.steps_per_piece - max(2, found.steps_per_piece // 10**4)
    if fewer > 0:
        shorter = Schedule(found.lrs, fewer, power)
        assert expected_risk(problem, shorter, shorter.steps).at(batch_size) >= target


@pytest.mark.parametrize(("problem", "batch_size", "share"), [(PROBLEM, 1e-12, 1e-3), (STEEP, math.inf, 1e-19)])
def test_a_target_out_of_reach_is_told_at_once(problem, batch_size, share, work):
    """Of too much noise, or of modes too slow."""
    with pytest.raises(ValueError, match="takes more than 1e"):
        optimal_schedule(problem, batch_size, of(problem, share))
    assert work[0]["evaluations"] <= work[1]["evaluations"]


@pytest.mark.parametrize("pieces", [19, 20, 57, 200])
def test_no_piece_is_lost_on_the_way_from_few_pieces_to_many(pieces):
    """A rate of almost 0 has no gradient: pieces stayed there, and a fifth more steps were taken."""
    found = optimal_schedule(PROBLEM, 1e-3, 1e-5, pieces)
    lrs = np.array(found.lrs)
    assert (np.diff(lrs) <= 0).all() and lrs.min() > 1e-5 * np.median(lrs)
    assert found.steps <= 8.32e11  # of 19 pieces; one lost piece took 8.8e11


def test_twice_the_pieces_need_no_more_steps():
    """Where k is large, so that whole steps hide nothing. Breaks if more pieces end in worse minima."""
    steps = [optimal_schedule(PROBLEM, 0.1, 1e-3, pieces).steps for pieces in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert (np.diff(steps) < 0).all()
