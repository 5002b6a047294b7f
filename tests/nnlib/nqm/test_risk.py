"""Closed forms of the expected risk against recursions, sixty-digit arithmetic, special cases and samples."""

import math

import numpy as np
import pytest
import torch

from nnlib.nqm import (
    SGD,
    HeavyBall,
    IterateAverage,
    NoisyQuadratic,
    Schedule,
    expected_risk,
    risk_per_eigenvalue,
    simulate,
    stability_limit,
    theorem_bound,
)
from nnlib.nqm.risk import heavy_ball, iterate_average
from tests.oracles.nqm import exact_mode, moment_recursion

METHODS = [
    SGD(lr=0.3),
    SGD(lr=1.9, power=0.5),
    SGD(lr=1.0),  # x = 1 exactly in the first mode: forgets in one step
    HeavyBall(lr=0.05, momentum=0.9),
    HeavyBall(lr=3.6, momentum=0.9, power=0.25),  # negative real roots at the top, complex ones below
    HeavyBall(lr=0.5, momentum=0.0),
    HeavyBall(lr=1.0, momentum=0.0),  # both roots zero in the first mode
    IterateAverage(lr=1.0, decay=0.99),  # meets its root exactly in mode 100
    IterateAverage(lr=1.97, decay=0.5, power=0.75),  # roots of opposite sign at the top
    IterateAverage(lr=0.4, decay=0.0),
    IterateAverage(lr=1.0, decay=0.0),
    Schedule(lrs=(1.9, 0.4, 0.05), steps_per_piece=50, power=0.25),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_closed_forms_equal_the_moment_recursion_at_full_dimension(method):
    """Breaks with any wrong sign, factor, start value or order of update in the closed forms."""
    problem, steps = NoisyQuadratic(dim=10_000), np.array([0, 1, 2, 3, 17, 50, 150])
    expected = moment_recursion(problem, method, 8.0, steps)
    np.testing.assert_allclose(expected_risk(problem, method, steps).at(8.0), expected, rtol=1e-11)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_general_noise_and_initial_variances_follow_the_recursion_too(method):
    """Breaks where c = h or s0 = 1 is taken for granted."""
    problem = NoisyQuadratic.from_spectrum([0.02, 1.0, 0.3], c=[0.5, 0.1, 2.0], s0=[3.0, 0.2, 1.0])
    steps = np.arange(0, 120, 7)
    expected = moment_recursion(problem, method, 3.0, steps)
    np.testing.assert_allclose(expected_risk(problem, method, steps).at(3.0), expected, rtol=1e-11)


@pytest.mark.parametrize("kind", [HeavyBall, IterateAverage])
@pytest.mark.parametrize("distance", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1e-1])
@pytest.mark.parametrize("side", [-1, 1])
def test_nothing_happens_where_the_two_roots_meet(kind, distance, side):
    """A clamped or naively divided difference of roots errs by 1e-5 and more here; the closed form by 1e-12."""
    form = heavy_ball if kind is HeavyBall else iterate_average
    for x in (1e-4, 0.01, 0.3):
        meeting = (1 - math.sqrt(x)) ** 2 if kind is HeavyBall else 1 - x
        b = meeting * (1 + side * distance * min(1, x))
        for t in (1, 2, 10, 1000, 30_000):
            kept, noise = exact_mode(kind, x, b, t)
            got_kept, got_noise = form(np.float64(x), b, t)
            assert abs(got_kept - kept) <= 1e-12 * max(kept, 1e-3)
            assert abs(got_noise - noise) <= 1e-11 * max(noise, 1e-3)


@pytest.mark.parametrize("kind", [HeavyBall, IterateAverage])
def test_modes_are_exact_over_twelve_decades(kind):
    """Errors relative to what can matter: 1 for the start, the limit of many steps for the noise."""
    form, generator = heavy_ball if kind is HeavyBall else iterate_average, np.random.default_rng(0)
    for _ in range(400):
        t = int(10 ** generator.uniform(0, 6))
        b = 1 - 10 ** generator.uniform(-5, 0)
        x = min(10 ** generator.uniform(-8, 0.6), (1.999 * (1 + b)) if kind is HeavyBall else 1.999)
        kept, noise = exact_mode(kind, x, b, t)
        limit = exact_mode(kind, x, b, 10**12)[1]
        got_kept, got_noise = form(np.float64(x), b, t)
        assert abs(got_kept - kept) < 1e-10
        assert abs(got_noise - noise) < 1e-10 * limit


def test_momentum_zero_and_decay_zero_are_sgd():
    """Breaks when either method's special case drifts from SGD's own formula."""
    problem, steps = NoisyQuadratic(dim=500), np.arange(0, 400, 13)
    sgd = expected_risk(problem, SGD(lr=1.7, power=0.25), steps).at(16)
    for method in (HeavyBall(1.7, 0.0, 0.25), IterateAverage(1.7, 0.0, 0.25)):
        np.testing.assert_allclose(expected_risk(problem, method, steps).at(16), sgd, rtol=1e-12)


def test_a_schedule_with_one_learning_rate_is_sgd():
    """Breaks when a piece starts from the wrong state or a step is counted twice at a boundary."""
    problem, steps = NoisyQuadratic(dim=300), np.arange(61)
    schedule = expected_risk(problem, Schedule(lrs=[0.7] * 6, steps_per_piece=10), steps)
    sgd = expected_risk(problem, SGD(lr=0.7), steps)
    np.testing.assert_allclose(schedule.bias, sgd.bias, rtol=1e-12)
    np.testing.assert_allclose(schedule.variance, sgd.variance, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("method", METHODS[:-1], ids=str)
def test_preconditioning_is_the_plain_method_in_rescaled_coordinates(method):
    """theta~ = h^(p/2) theta has curvature h^(1-p), noise c h^(-p), start h^p s0 and the same loss."""
    problem = NoisyQuadratic(dim=200, noise_exponent=0.8)
    h, p = problem.h, method.power
    plain = NoisyQuadratic.from_spectrum(h ** (1 - p), problem.c * h**-p, h**p * problem.s0)
    values = {field: getattr(method, field) for field in ("momentum", "decay") if hasattr(method, field)}
    unpreconditioned = type(method)(lr=method.lr, **values)
    steps = np.array([0, 1, 5, 40, 300])
    expected = expected_risk(plain, unpreconditioned, steps).at(5)
    np.testing.assert_allclose(expected_risk(problem, method, steps).at(5), expected, rtol=1e-10)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_risk_is_the_sum_over_eigenvalues(method):
    """Breaks when the breakdown forgets weights or mixes up axes."""
    problem, steps = NoisyQuadratic(dim=50), np.array([[0, 3], [10, 100]])
    total, modes = expected_risk(problem, method, steps), risk_per_eigenvalue(problem, method, steps)
    assert modes.bias.shape == modes.variance.shape == (2, 2, 50)
    np.testing.assert_allclose(modes.bias.sum(-1), total.bias, rtol=1e-13)
    np.testing.assert_allclose(modes.variance.sum(-1), total.variance, rtol=1e-13)
    assert np.ndim(expected_risk(problem, method, 3).bias) == 0


@pytest.mark.parametrize("method", METHODS[:-1], ids=str)
def test_theorems_bound_the_risk_and_are_reached_in_the_end(method):
    """Theorems 1 and 2: below the bound at every step, equal to it after many. A wrong steady state fails one."""
    problem, steps = NoisyQuadratic(dim=100), np.array([0, 1, 7, 100, 5000, 10**7])
    exact, bound = expected_risk(problem, method, steps), theorem_bound(problem, method, steps)
    assert (exact.variance <= bound.variance * (1 + 1e-12)).all()
    np.testing.assert_array_equal(exact.bias, bound.bias)
    np.testing.assert_allclose(exact.variance[-1], bound.variance[-1], rtol=1e-9)


def test_a_large_dimension_is_the_same_sum():
    """Breaks when the integrated tail loses or doubles an eigenvalue; the sum is written out here."""
    dim = 200_000
    problem, h = NoisyQuadratic(dim=dim), 1 / np.arange(1.0, dim + 1)
    assert problem.h.size < 10_000
    full = NoisyQuadratic.from_spectrum(h)
    for method in (SGD(lr=1.5), HeavyBall(lr=0.5, momentum=0.99), IterateAverage(lr=1.5, decay=0.999, power=0.5)):
        for t in (0, 1000, 10**6):
            got, expected = expected_risk(problem, method, t), expected_risk(full, method, t)
            np.testing.assert_allclose(
                [got.bias, got.variance], [expected.bias, expected.variance], rtol=1e-8, atol=1e-12
            )


@pytest.mark.parametrize(
    "method",
    [
        SGD(lr=0.5, power=0.25),
        HeavyBall(lr=0.3, momentum=0.8, power=0.25),
        IterateAverage(lr=0.8, decay=0.9, power=0.25),
        Schedule(lrs=(1.5, 0.1), steps_per_piece=20, power=0.25),
    ],
    ids=lambda method: type(method).__name__,
)
def test_samples_agree_with_the_expected_risk(method):
    """Within four standard errors at each look; a factor 1.05 in bias or noise is five and more."""
    problem, steps, runs = NoisyQuadratic(dim=4), np.array([0, 1, 5, 20, 40]), 20_000
    losses = simulate(problem, method, batch_size=4, steps=steps, runs=runs, seed=0)
    assert losses.shape == (5, runs)
    error = losses.std(-1) / math.sqrt(runs)
    expected = torch.as_tensor(expected_risk(problem, method, steps).at(4))
    assert ((losses.mean(-1) - expected).abs() < 4 * error).all()
    assert not ((losses.mean(-1) - 1.06 * expected).abs() < 4 * error).all()  # the test can tell


def test_simulation_depends_on_its_seed_alone():
    """Breaks with the global generator."""
    problem, method = NoisyQuadratic(dim=3), HeavyBall(lr=0.1, momentum=0.5)
    torch.manual_seed(1)
    first = simulate(problem, method, 2, steps=5, runs=4, seed=7)
    torch.manual_seed(2)
    assert torch.equal(first, simulate(problem, method, 2, steps=5, runs=4, seed=7))
    assert not torch.equal(first, simulate(problem, method, 2, steps=5, runs=4, seed=8))


def test_simulation_makes_every_tensor_on_the_device_it_was_given():
    """Under another default device, one tensor made without a device fails."""
    torch.set_default_device("meta")
    try:
        for method in METHODS:
            losses = simulate(NoisyQuadratic(dim=3), method, 2, steps=[0, 5], runs=4, seed=7, device="cpu")
            assert losses.device.type == "cpu" and losses.isfinite().all()
    finally:
        torch.set_default_device("cpu")


def test_simulation_keeps_its_precision():
    """Breaks when an intermediate float64 tensor promotes the result."""
    losses = simulate(NoisyQuadratic(dim=3), SGD(lr=0.1), 2, steps=3, runs=2, seed=0, dtype=torch.float32)
    assert losses.dtype == torch.float32


@pytest.mark.parametrize(
    ("method", "limit"),
    [
        (SGD(2.0), 2.0),
        (HeavyBall(3.0, 0.5), 3.0),
        (IterateAverage(2.5, 0.9), 2.0),
        (Schedule([1.0, 2.0], 5), 2.0),
    ],
    ids=str,
)
def test_unstable_learning_rates_are_refused_everywhere(method, limit):
    """At the limit itself the fastest mode never settles; the message names the limit."""
    problem = NoisyQuadratic(dim=10)
    assert stability_limit(problem, method) == limit
    for function in (
        lambda: expected_risk(problem, method, 1),
        lambda: risk_per_eigenvalue(problem, method, 1),
        lambda: simulate(problem, method, 1, 1, 1, seed=0),
    ):
        with pytest.raises(ValueError, match=f"stability limit {limit:g}"):
            function()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(lr=0.0),
        lambda: SGD(lr=math.nan),
        lambda: SGD(lr=1.0, power=1.1),
        lambda: HeavyBall(lr=1.0, momentum=1.0),
        lambda: HeavyBall(lr=1.0, momentum=-0.1),
        lambda: IterateAverage(lr=1.0, decay=1.0),
        lambda: Schedule(lrs=(), steps_per_piece=3),
        lambda: Schedule(lrs=(1.0,), steps_per_piece=0),
        lambda: Schedule(lrs=(1.0, -1.0), steps_per_piece=1),
        lambda: NoisyQuadratic(dim=0),
        lambda: NoisyQuadratic(dim=10.5),
        lambda: NoisyQuadratic(curvature_exponent=-1),
        lambda: NoisyQuadratic(noise_exponent=math.inf),
        lambda: NoisyQuadratic(init_variance=0.0),
        lambda: NoisyQuadratic.from_spectrum([1.0, 0.0]),
        lambda: NoisyQuadratic.from_spectrum([1.0, -2.0]),
        lambda: NoisyQuadratic.from_spectrum([]),
        lambda: NoisyQuadratic.from_spectrum([1.0, 2.0], c=[1.0]),
        lambda: NoisyQuadratic.from_spectrum([1.0, 2.0], s0=[1.0, math.nan]),
        lambda: expected_risk(NoisyQuadratic(dim=3), SGD(1.0), -1),
        lambda: expected_risk(NoisyQuadratic(dim=3), SGD(1.0), 1.5),
        lambda: expected_risk(NoisyQuadratic(dim=3), Schedule((1.0,), 5), 6),
        lambda: expected_risk(NoisyQuadratic(dim=3), SGD(1.0), 1).at(0),
        lambda: theorem_bound(NoisyQuadratic(dim=3), Schedule((1.0,), 5), 5),
        lambda: simulate(NoisyQuadratic(dim=3), SGD(1.0), 0, 1, 1, seed=0),
        lambda: simulate(NoisyQuadratic(dim=3), SGD(1.0), 1, 1, 0, seed=0),
        lambda: simulate(NoisyQuadratic(dim=10**6), SGD(1.0), 1, 1, 1, seed=0),
    ],
)
def test_bad_input_is_a_clear_error(make):
    """Every message says what was wrong and which value it got."""
    with pytest.raises((ValueError, TypeError), match=r"got|positive and finite"):
        make()


def test_methods_and_problems_cannot_be_changed():
    """A cached spectrum must not go stale."""
    with pytest.raises(AttributeError):
        SGD(lr=1.0).lr = 2.0
    with pytest.raises(ValueError):
        NoisyQuadratic(dim=3).h[0] = 2.0
    h = np.array([1.0, 2.0])
    problem = NoisyQuadratic.from_spectrum(h)
    h[0] = 5.0
    assert problem.h.tolist() == [2.0, 1.0]


def test_a_compressed_spectrum_keeps_the_risk():
    """The sums of risk and noise exactly; both to 1e-5 as they decay to 1e-4 of their start."""
    for problem in (NoisyQuadratic(), NoisyQuadratic.from_spectrum(np.random.default_rng(0).lognormal(0, 2, 5000))):
        full, small = problem.spectrum, problem.compressed
        assert small.h.size <= 700
        np.testing.assert_allclose(small.initial.sum(), full.initial.sum(), rtol=1e-12)
        np.testing.assert_allclose(small.noise.sum(), full.noise.sum(), rtol=1e-12)
        for tau in np.geomspace(1e-3, 1e3, 13) / full.h.min():
            for mass in ("initial", "noise"):
                exact = (getattr(full, mass) * np.exp(-full.h * tau)).sum()
                close = (getattr(small, mass) * np.exp(-small.h * tau)).sum()
                if exact > 1e-4 * getattr(full, mass).sum():  # deeper, a few slow modes are all that is left
                    assert abs(close - exact) < 1e-5 * exact
