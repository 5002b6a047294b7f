"""The report's bounds enclose the truth, its factors multiply up, and what has no bound is refused by name."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from nnlib.lipschitz import MaxMin, OrthogonalLinear, jacobians, layer_bounds, lipschitz_constant, lipschitz_report
from tests.oracles.lipschitz import steepest_on_grid


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_network(activation=nn.ReLU, n_in=2, n_out=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(n_in, 12), activation(), nn.Sequential(nn.Linear(12, 12), activation()), nn.Linear(12, n_out)
    ).double()


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, MaxMin])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_product_of_the_attained_factors_is_the_norm_of_the_jacobian(activation, seed):
    model = plain_network(activation, seed=seed)
    report = lipschitz_report(model, draw(30, 2))
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], report.point)
    assert report.lower == pytest.approx(torch.linalg.matrix_norm(jacobian, 2).item(), rel=1e-9)
    assert math.prod(pd.DataFrame(report.rows).attained) == pytest.approx(report.lower)
    assert math.prod(pd.DataFrame(report.rows).bound) == pytest.approx(report.upper)
    assert (pd.DataFrame(report.rows).attained <= pd.DataFrame(report.rows).bound * (1 + 1e-9)).all()
    assert report.gap >= 1


def test_in_one_dimension_the_bounds_enclose_the_slope_and_the_lower_one_finds_it():
    model = plain_network(n_in=1, n_out=1, seed=3)
    truth = steepest_on_grid(model, -20, 20, 20_001)
    report = lipschitz_report(model, draw(50, 1))
    assert report.lower <= truth * (1 + 1e-6)
    assert report.lower >= 0.95 * truth
    assert truth <= report.upper


def test_a_sorting_network_loses_nothing():
    model = nn.Sequential(
        OrthogonalLinear(2, 8, seed=0, dtype=torch.float64),
        MaxMin(),
        OrthogonalLinear(8, 8, seed=1, dtype=torch.float64),
        MaxMin(),
        OrthogonalLinear(8, 8, seed=2, dtype=torch.float64),
    )
    report = lipschitz_report(model, draw(10, 2))
    assert report.upper == pytest.approx(1, abs=1e-9)
    assert report.lower == pytest.approx(1, abs=1e-9)
    assert (pd.DataFrame(report.rows).lost < 1e-9).all()


def test_the_ledger_names_the_layer_that_loses():
    # the second layer's strongest direction is one that the first never feeds
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.diag(torch.tensor([1.0, 0.0])))
        second.weight.copy_(torch.diag(torch.tensor([0.5, 2.0])))
    report = lipschitz_report(nn.Sequential(first, second), torch.ones(4, 2))
    assert report.upper == pytest.approx(2.0)
    assert report.lower == pytest.approx(0.5)
    assert pd.DataFrame(report.rows).lost.tolist() == pytest.approx([0.0, 0.75], abs=1e-6)


def test_climbing_finds_a_steeper_point_than_the_data():
    # tanh(3 x - 9): steep at 3, all but flat where the data is
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh()).double()
    with torch.no_grad():
        model[0].weight.fill_(3.0)
        model[0].bias.fill_(-9.0)
    x = torch.zeros(5, 1, dtype=torch.float64)
    assert lipschitz_report(model, x, steps=0).lower < 1
    assert 2.9 < lipschitz_report(model, x, steps=50).lower <= 3


@pytest.mark.parametrize("p", [1, math.inf])
def test_dense_networks_are_bounded_in_the_inf_norm_and_1_norm_too(p):
    model = plain_network()
    expected = math.prod(
        torch.linalg.matrix_norm(layer.weight, p).item() for layer in model.modules() if isinstance(layer, nn.Linear)
    )
    report = lipschitz_report(model, draw(20, 2), p)
    assert report.upper == pytest.approx(expected, rel=1e-9)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], report.point)
    assert report.lower == pytest.approx(torch.linalg.matrix_norm(jacobian, p).item(), rel=1e-9)
    assert report.lower <= report.upper


def test_reporting_leaves_the_model_as_it_was():
    model = plain_network()
    model[2].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    lipschitz_report(model, draw(5, 2))
    assert [module.training for module in (model, model[0], model[2])] == [True, True, False]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_layer_without_a_bound_is_refused_by_name():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()))
    for call in (lambda: lipschitz_report(model, draw(5, 2)), lambda: lipschitz_constant(model)):
        with pytest.raises(ValueError, match=r"layer 1\.0: no Lipschitz bound is known for BatchNorm1d"):
            call()


def test_the_same_seed_gives_the_same_report():
    model = plain_network()
    first, second = (lipschitz_report(model, draw(100, 2), seed=4) for _ in range(2))
    assert first.lower == second.lower
    assert [row.name for row in layer_bounds(model)] == ["0", "1", "2.0", "2.1", "3"]


def test_a_jacobian_is_of_what_has_a_derivative_and_of_points_in_rows():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach()

    with pytest.raises(ValueError, match="model must have a derivative by x: Cut gives an output without"):
        jacobians(Cut(), torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"x must have shape \(n, inputs, ...\)"):
        jacobians(nn.ReLU(), torch.ones(3))
    with pytest.raises(ValueError, match=r"x must be what the model takes: .* got a tensor of float32, shape \(2, 3\)"):
        jacobians(nn.Linear(2, 1), torch.ones(2, 3))
    assert jacobians(nn.Flatten(), torch.ones(2, 3, 1)).shape == (2, 3, 3)
