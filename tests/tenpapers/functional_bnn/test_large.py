"""A large table by mini-batches: what is trained, what is told, what is refused. On a small table, for speed."""

import pytest
import torch

from tenpapers.functional_bnn.large import METHODS, neural_prior, regress_large


def test_the_neural_prior_describes_diabetes_better_than_noise_alone():
    """Targets have variance 1: the fitted noise must be below it, and the kernel needs no gradient."""
    evidence = neural_prior("diabetes", 0, 40)
    assert 0.3 < evidence.noise_sd < 0.95
    assert not any(p.requires_grad for p in evidence.kernel.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_predicts_better_than_the_mean(method):
    """77 is the standard deviation of the targets of diabetes."""
    found = regress_large("diabetes", 0, method, steps=150, batch_size=50, samples=20, kernel_steps=40)
    assert found["rmse"] < 70
    assert found["log_likelihood"] > -6.0 and 0.5 < found["coverage"] <= 1


def test_the_same_seed_gives_the_same_numbers():
    options = {"steps": 5, "batch_size": 20, "samples": 5, "kernel_steps": 3}
    first, second = (regress_large("diabetes", 1, "fBNN", **options) for _ in range(2))
    assert first == second
    assert first != regress_large("diabetes", 1, "fBNN", seed=1, **options)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method must be one of GP of a subset"):
        regress_large("diabetes", 0, "kriging")


def test_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    regress_large("diabetes", 0, "weight-space VI", steps=2, batch_size=20, samples=3)
    assert torch.equal(state, torch.random.get_rng_state())
