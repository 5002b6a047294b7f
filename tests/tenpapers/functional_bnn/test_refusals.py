"""A run that was not asked for is not given: names, sizes and options that a method does not have are refused."""

import pytest

from tenpapers.functional_bnn import measure
from tenpapers.noisy_ekfac.measure import classify
from tenpapers.noisy_ekfac.regression import regress

REFUSED = {
    "toy": (lambda: measure.extrapolate("foo"), "toy must be one of sine, cubic: got 'foo'"),
    "kernel": (lambda: measure.extrapolate("sine", "foo"), "kernel must be one of RBF"),
    "method": (lambda: measure.extrapolate("sine", "RBF", "foo"), "method must be one of fBNN, weight-space VI"),
    "options": (
        lambda: measure.extrapolate("sine", "RBF", "weight-space VI", steps=1, n_random=3),
        "takes no options of the function space: got n_random",
    ),
    "prior": (lambda: measure.piecewise_run("foo"), "prior must be one of piecewise constant"),
    "series": (lambda: measure.forecast("foo", "fBNN"), "name must be one of airline, co2"),
    "set": (lambda: measure.regress("digits", 0, "fBNN"), "name must be one of boston"),
    "large set": (lambda: measure.regress_large("digits", 0, "fBNN"), "name must be one of boston"),
    "batch": (
        lambda: measure.regress("diabetes", 0, "weight-space VI", batch_size=10**4, prior_steps=1),
        "batch_size must be from 1 to the 398 training points: got 10000",
    ),
    "bandit": (lambda: measure.bandit_run("foo", "uniform", 10), "problem must be one of"),
    "split": (lambda: classify("MLP, digits", "SGD", measured_on="foo"), "one of train, validation, test"),
    "damping": (
        lambda: regress("diabetes", "Noisy EK-FAC", damping_kind="factored", epochs=2),
        "unexpected keyword argument 'damping_kind'",
    ),
    "negative rate": (lambda: regress("diabetes", "Noisy Adam", lr=-0.01), "lr must be a number in .0, inf"),
    "momentum": (
        lambda: regress("diabetes", "Noisy Adam", momentum=-3.0),
        r"momentum must be a number in \[0, 1\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_is_refused_by_name(case):
    """Breaks where another method runs in its place, or an untrained network is measured."""
    ask, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ask()


def test_a_run_that_diverges_says_so():
    """Breaks if only NaN counts: a rate of 100 ends at an error of 1e18, which is finite."""
    with pytest.raises(ArithmeticError, match="Bayes by backprop diverged in epoch"):
        regress("diabetes", "Bayes by backprop", lr=1e4, epochs=2, batch_size=50)
