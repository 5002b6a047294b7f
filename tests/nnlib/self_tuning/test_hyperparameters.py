"""Ranges, coordinates, perturbations."""

import pytest
import torch

from nnlib.self_tuning import Hyperparameter, Space

RANGES = [(0, 0.9), (-2.0, 3.0), (1, None), (None, 2.0), (None, None)]


@pytest.mark.parametrize("range", RANGES)
def test_value_and_coordinate_are_inverse_to_each_other(range):
    for value in (1.5, 1e-3, 0.8999, 40.0, -1.9):
        low, high = (-1e9 if range[0] is None else range[0]), (1e9 if range[1] is None else range[1])
        if low < value < high:
            hyper = Hyperparameter("x", range, value)
            u = torch.tensor(hyper.unconstrained(value), dtype=torch.float64)
            assert float(hyper.value(u)) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("range", RANGES)
def test_every_coordinate_gives_a_value_of_the_range(range):
    u = torch.linspace(-30, 30, 61, dtype=torch.float64)
    value = Hyperparameter("x", range, 1.5 if range != (0, 0.9) else 0.5).value(u)
    assert (value >= (range[0] if range[0] is not None else -100)).all()
    assert (value <= (range[1] if range[1] is not None else 100)).all()


@pytest.mark.parametrize(("range", "init"), [((0, 1), 1.0), ((0, None), -1.0), ((2, 1), 1.5), ((0, 1), float("nan"))])
def test_a_start_outside_of_its_range_is_refused(range, init):
    with pytest.raises(ValueError, match="x"):
        Hyperparameter("x", range, init)


def test_training_sees_whole_numbers_of_a_discrete_one_and_never_a_gradient():
    space = Space([Hyperparameter("holes", (0, 4), 2, discrete=True), Hyperparameter("rate", (0, 1), 0.5)])
    u = torch.randn(50, 2, requires_grad=True)
    used = space.used(u)
    assert torch.equal(used["holes"], used["holes"].round()) and len(used["holes"].unique()) > 1
    assert not any(value.requires_grad for value in used.values())


def test_shared_hyperparameters_have_one_perturbation_for_a_batch_and_others_one_an_example():
    space = Space([Hyperparameter("a", (0, 1), 0.5, shared=True), Hyperparameter("b", (0, 1), 0.5)])
    eps = space.noise(2000, torch.Generator().manual_seed(0), torch.zeros(1, dtype=torch.float64))
    assert len(eps[:, 0].unique()) == 1 and len(eps[:, 1].unique()) == 2000
    assert abs(float(eps[:, 1].std()) - 1) < 0.1
    assert space.used(eps)["a"].shape == ()


def test_names_must_differ_and_values_must_be_complete():
    hyper = Hyperparameter("a", (0, 1), 0.5)
    with pytest.raises(ValueError, match="different names"):
        Space([hyper, hyper])
    with pytest.raises(ValueError, match="needed"):
        Space([hyper]).unconstrained({})
