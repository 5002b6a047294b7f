"""A step in other parameters: the same where the Fisher matrix is invertible, and not where it is singular."""

import pytest
import torch

from nnlib.natural_gradient import TwoLayer, train
from tenpapers.natural_gradient import units
from tenpapers.natural_gradient.workloads import sphere


def test_step_is_invariant_where_the_fisher_matrix_is_invertible_and_only_there():
    """Breaks if the gradient is taken for the natural gradient, or the mixed model is another function."""
    for n, invertible in ((40, True), (6, False)):
        own, mixed, moved, moved_mixed = units.mixed_steps(n, seed=3)
        torch.testing.assert_close(moved, moved_mixed, rtol=1e-6, atol=1e-9)
        assert ((mixed - own).norm() < 1e-5 * own.norm()) == invertible


def test_a_mixed_model_is_the_same_function():
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(2, 1).double()
    T = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    mixed = units.Mixed(model, T)
    torch.testing.assert_close(mixed(x), model(x))
    assert [p.shape for p in mixed.parameters()] == [(3,)]


def test_other_units_give_the_natural_gradient_other_outputs_on_new_points_and_kfac_the_same():
    """Breaks if units are changed of the inputs or of the weights alone, so that the function is another."""
    found = {method: units.measure_units(method, 4.0, 512, seed=2) for method in units.METHODS}
    assert found["Natural gradient"]["test"] > 0.2 > 0.05 > found["Natural gradient"]["training"]
    assert found["K-FAC"]["test"] < 1e-9 and found["GD"]["training"] > 0.05
    # More dimensions than points: X has no full column rank, and K-FAC's pseudo-inverse is of minimum norm too.
    assert units.measure_units("K-FAC", 4.0, 512, d=40, seed=2)["test"] > 0.1


def test_a_row_of_units_compares_two_runs_that_start_from_the_same_function():
    x, y, x_test, *_ = sphere(12, 4, 5)
    one, other = (units.train_in_units(x, y, x_test, "Natural gradient", factor, 64, 2, 5) for factor in (1.0, 3.0))
    torch.testing.assert_close(one[0][0], other[0][0])
    torch.testing.assert_close(one[2], other[2])
    net = TwoLayer(4, 64, seed=5, dtype=torch.float64)
    torch.testing.assert_close(one[0], train(net, x, y, "Natural gradient", 0.3, 2, watch=False).outputs)
    row = units.measure_units("Natural gradient", 3.0, 64, steps=2, n=12, d=4, seed=5)
    assert row["test"] == pytest.approx(float((other[1] - one[1]).norm() / (one[1] - one[2]).norm()))
    worst = (other[0] - one[0]).norm(dim=1).max() / (one[0][0] - y).norm()
    assert row["training"] == pytest.approx(float(worst))
