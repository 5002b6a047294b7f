"""Tuning ridge regression in exact expectation: against autograd through quadrature, and to the optimum."""

import pytest
import torch

from nnlib.self_tuning.ridge import Ridge
from nnlib.self_tuning.tune_ridge import _descent, descend, tune
from nnlib.training import Split
from tenpapers.self_tuning.workloads import diabetes
from tests.devices import same_without_a_default_device
from tests.oracles import self_tuning as oracle

assert_close = torch.testing.assert_close
PROBLEM = diabetes()
OPTIMUM = PROBLEM.optimum()


def test_a_step_of_stn_is_gradient_descent_on_the_expected_loss():
    both = torch.linspace(-1, 1, 20, dtype=torch.float64, requires_grad=True)
    turn, shift = _descent(PROBLEM, "stn", -1.5, 0.5, 0.05)
    loss = oracle.expected_loss(PROBLEM, -1.5, 0.5, both[:10], both[10:], centred=False)
    (gradient,) = torch.autograd.grad(loss, both)
    assert_close((turn @ both + shift).detach(), (both - 0.05 * gradient).detach())


def test_a_step_of_delta_stn_is_one_at_the_unperturbed_value_then_one_on_the_slope():
    both = torch.linspace(-1, 1, 20, dtype=torch.float64)
    w_0, v = both[:10].clone().requires_grad_(), both[10:].clone().requires_grad_()
    x, y = PROBLEM.train
    plain = (x @ w_0 - y).square().mean() / 2 + torch.tensor(-1.5).double().exp() / 2 * w_0.square().sum()
    w_0 = (w_0 - 0.05 * torch.autograd.grad(plain, w_0)[0]).detach()
    (gradient,) = torch.autograd.grad(oracle.expected_loss(PROBLEM, -1.5, 0.5, w_0, v), v)
    turn, shift = _descent(PROBLEM, "delta", -1.5, 0.5, 0.05)
    assert_close(turn @ both + shift, torch.cat([w_0, (v - 0.05 * gradient).detach()]))


@pytest.mark.parametrize("start", [-6.0, -1.0, 2.0])
def test_delta_stn_ends_at_the_optimum_from_both_sides(start):
    run = tune(PROBLEM, "delta", start, hyper_lr=0.05)
    assert not run.diverged and abs(run.rows[-1]["lam"] - OPTIMUM) < 0.1


def test_stn_diverges_at_the_rates_at_which_delta_stn_converges():
    assert all(tune(PROBLEM, "stn", start, hyper_lr=0.05).diverged for start in (-6.0, 2.0))


def test_stn_diverges_exactly_where_its_map_has_an_eigenvalue_beyond_one():
    for lr, diverges in ((0.05, True), (0.002, False)):
        turn, _ = _descent(PROBLEM, "stn", -6.0, 0.5, lr)
        assert (torch.linalg.eigvals(turn).abs().max() > 1) == diverges
        run = tune(PROBLEM, "stn", -6.0, lr=lr, hyper_lr=1e-9, steps=100)  # lambda stays
        assert run.diverged == diverges


def test_the_response_of_a_fixed_lambda_becomes_the_linear_response():
    run = tune(PROBLEM, "delta", -2.0, sigma=0.5, hyper_lr=1e-9, steps=600)
    exact, v = PROBLEM.jacobian(-2.0), PROBLEM.linear_response(-2.0, 0.5)[1]
    # w_0 is trained unperturbed, so the slope is near, not at, the joint optimum: the bias of sigma remains.
    assert abs(run.rows[-1]["response_error"] - float((v - exact).norm() / exact.norm())) < 0.05


def test_too_small_a_scale_leaves_the_slope_unlearned():
    errors = [
        tune(PROBLEM, "delta", -2.0, sigma=s, hyper_lr=1e-9, steps=200).rows[-1]["response_error"] for s in (0.05, 0.5)
    ]
    assert errors[0] > 0.5 and errors[1] < 0.5


def test_exact_hypergradients_reach_the_optimum_and_short_unrolling_stops_elsewhere():
    exact = descend(PROBLEM.hypergradient, -1.0)
    short, long = (
        descend(lambda lam, n=n: PROBLEM.unrolled_hypergradient(lam, n, 0.2), -2.0, steps=60) for n in (3, 60)
    )
    assert abs(exact - OPTIMUM) < 0.01
    assert abs(long - OPTIMUM) < 0.3 < abs(short - OPTIMUM)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_device_and_dtype_come_from_the_problem(dtype):
    parts = [[t.to(dtype) for t in part] for part in (PROBLEM.train, PROBLEM.validation)]

    def compute():
        problem = Ridge(*(Split(*part) for part in parts))
        run = tune(problem, "delta", -1.0, steps=5)
        turn, shift = _descent(problem, "stn", -1.0, 0.5, 0.05)
        return {
            "turn": turn,
            "shift": shift,
            "lam": torch.tensor([row["lam"] for row in run.rows], device="cpu", dtype=dtype),
        }

    assert all(t.dtype == dtype for found in same_without_a_default_device(compute).values() for t in found)


@pytest.mark.parametrize("bad", [{"variant": "x"}, {"sigma": 0.0}, {"lr": -1.0}, {"steps": 0}])
def test_bad_settings_are_refused(bad):
    options = {"variant": "delta"} | bad
    with pytest.raises(ValueError, match="must be"):
        tune(PROBLEM, options.pop("variant"), 0.0, **options)
    with pytest.raises(ValueError, match="steps"):
        descend(PROBLEM.hypergradient, 0.0, steps=0)
