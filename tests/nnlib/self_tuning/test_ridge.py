"""Ridge regression: every formula against descent, quadrature, differences, and another implementation's numbers."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from nnlib.self_tuning import joint_hessian
from tenpapers.self_tuning.workloads import diabetes
from tests.oracles import self_tuning as oracle

assert_close = torch.testing.assert_close
PROBLEM = diabetes()


@pytest.mark.parametrize("lam", [-3.0, 0.0, 2.0])
def test_best_response_is_where_descent_ends(lam):
    assert_close(PROBLEM.best_response(lam), oracle.ridge_by_descent(PROBLEM, lam, 4000), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lam", [-4.0, -1.0, 2.0, 6.0])
def test_ridge_is_least_squares_with_sigmoid_gates_on_principal_components(lam):
    gates, components = PROBLEM.gates(lam)
    least_squares = torch.linalg.solve(PROBLEM.hessian, PROBLEM.moment)
    assert_close(components.T @ (gates * (components @ least_squares)), PROBLEM.best_response(lam))
    assert (PROBLEM.gates(lam + 0.5)[0] < gates).all()  # a larger penalty closes every gate


@pytest.mark.parametrize("lam", [-6.0, -1.0, 2.0])
def test_jacobian_and_hypergradient_are_those_of_differences(lam):
    h = 1e-5
    difference = (PROBLEM.best_response(lam + h) - PROBLEM.best_response(lam - h)) / (2 * h)
    assert_close(PROBLEM.jacobian(lam), difference, rtol=1e-6, atol=1e-9)
    losses = [float(PROBLEM.validation_loss(PROBLEM.best_response(lam + s * h))) for s in (1, -1)]
    assert PROBLEM.hypergradient(lam) == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-5)


def test_unrolling_tends_to_implicit_differentiation():
    exact = PROBLEM.hypergradient(0.0)
    errors = [abs(PROBLEM.unrolled_hypergradient(0.0, steps, 0.2) - exact) for steps in (3, 10, 100)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-8


def test_optimum_and_losses_are_those_of_an_independent_implementation():
    # Written in numpy, from the raw file: lambda -2.73 on its grid, losses at three values, hypergradient at -1.
    best = PROBLEM.optimum()
    assert best == pytest.approx(-2.73, abs=0.02) and abs(PROBLEM.hypergradient(best)) < 1e-9
    losses = [float(PROBLEM.validation_loss(PROBLEM.best_response(lam))) for lam in (best, -8, 3)]
    assert losses == pytest.approx([0.25890, 0.2605, 0.4725], abs=5e-5)
    assert PROBLEM.hypergradient(-1.0) == pytest.approx(0.0158532342, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_linear_response_is_the_minimum_of_the_expected_loss(sigma):
    w_0, v = (t.requires_grad_() for t in PROBLEM.linear_response(-2.0, sigma))
    loss = oracle.expected_loss(PROBLEM, -2.0, sigma, w_0, v)
    for gradient in torch.autograd.grad(loss, (w_0, v)):
        assert float(gradient.abs().max()) < 1e-10


def test_linear_response_tends_to_the_jacobian_as_sigma_squared():
    exact = PROBLEM.jacobian(-2.73)
    errors = [float((PROBLEM.linear_response(-2.73, s)[1] - exact).norm() / exact.norm()) for s in (0.05, 0.1, 0.2)]
    assert errors[0] < 1e-3
    assert [b / a for a, b in pairwise(errors)] == pytest.approx([4, 4], rel=0.05)
    with pytest.raises(ValueError, match="slope is not determined"):
        PROBLEM.linear_response(-2.73, 1e-160)  # whose square has lost its digits
    assert_close(PROBLEM.linear_response(-2.73, 1e-9)[1], exact)


@pytest.mark.parametrize("centred", [True, False])
def test_joint_hessian_is_that_of_the_expected_loss(centred):
    lam, sigma, d = -1.5, 0.5, len(PROBLEM.moment)

    def loss(both):
        return oracle.expected_loss(PROBLEM, lam, sigma, both[:d], both[d:], centred)

    found = torch.autograd.functional.hessian(loss, torch.zeros(2 * d, dtype=torch.float64))
    assert_close(joint_hessian(PROBLEM, lam, sigma, centred=centred), found)


def test_without_centring_the_problem_is_a_thousand_times_worse_conditioned():
    worst, condition = {}, {}
    for centred in (True, False):
        values = torch.linalg.eigvalsh(joint_hessian(PROBLEM, -6.0, 0.5, centred=centred))
        worst[centred], condition[centred] = float(values[-1]), float(values[-1] / values[0])
    assert worst[True] == pytest.approx(4.4, abs=0.05) and worst[False] == pytest.approx(162, abs=0.5)
    assert condition[False] > 1000 * condition[True]
    assert math.isclose(np.log10(condition[True]), 3.27, abs_tol=0.01)


def test_descent_at_a_rate_of_a_twentieth_diverges_without_centring_and_converges_with_it():
    factor = {}
    for centred in (True, False):
        values = torch.linalg.eigvalsh(joint_hessian(PROBLEM, -6.0, 0.5, centred=centred))
        factor[centred] = float((1 - 0.05 * values).abs().max())
    assert factor[True] < 1 and factor[False] > 1
