"""What the theorems build does what they say, and costs the constant that they say."""

import math

import pytest
import torch
from torch import nn

from nnlib.groupsort import (
    LipschitzMLP,
    abs_from_maxmin,
    absolute_value,
    affine,
    full_sort_from_maxmin,
    lattice_interpolant,
    leaky_relu_from_maxmin,
    maxmin_from_abs,
    maxmin_from_full_sort,
    orthonormalised,
    relu_ceiling,
)
from nnlib.lipschitz import FullSort, MaxMin, jacobians, lipschitz_constant, lipschitz_report

inf = math.inf


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_two_sorted_units_make_the_absolute_value_at_constant_1():
    x = torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None]
    torch.testing.assert_close(absolute_value()(x), x.abs())
    assert lipschitz_constant(absolute_value()) == pytest.approx(1)


def test_maxmin_is_a_rotation_of_the_absolute_value_and_back():
    x = draw(200, 2)
    torch.testing.assert_close(maxmin_from_abs()(x), x.sort(dim=1, descending=True).values)
    assert lipschitz_constant(maxmin_from_abs()) == pytest.approx(1)
    torch.testing.assert_close(abs_from_maxmin(3)(draw(50, 3)), draw(50, 3).abs())
    assert lipschitz_constant(abs_from_maxmin(3)) == pytest.approx(1)


def test_under_the_inf_norm_each_rotation_costs_a_factor_root_2():
    assert lipschitz_constant(maxmin_from_abs(), inf) == pytest.approx(2)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_under_the_inf_norm_maxmin_makes_relu_and_leaky_relu_for_nothing(slope):
    x = draw(100, 1)
    torch.testing.assert_close(leaky_relu_from_maxmin(slope)(x), nn.functional.leaky_relu(x, slope))
    assert lipschitz_constant(leaky_relu_from_maxmin(slope), inf) == pytest.approx(1)


@pytest.mark.parametrize("n", [2, 3, 4, 7, 8])
def test_n_rounds_of_maxmin_sort_n_features_at_constant_1_in_the_inf_norm(n):
    x = draw(300, n)
    x[::3, 0] = x[::3, n - 1]  # with ties
    torch.testing.assert_close(full_sort_from_maxmin(n)(x), FullSort()(x), rtol=0, atol=0)
    assert lipschitz_constant(full_sort_from_maxmin(n), inf) == pytest.approx(1)


def test_one_round_fewer_does_not_sort():
    network = full_sort_from_maxmin(4)[:-3]
    reverse = torch.tensor([[4.0, 3.0, 2.0, 1.0]], dtype=torch.float64)
    assert not torch.equal(network(reverse), FullSort()(reverse))


@pytest.mark.parametrize("n", [2, 6])
def test_one_full_sort_makes_all_pairs_of_maxmin_within_its_box(n):
    x = 2 * torch.rand(200, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    torch.testing.assert_close(maxmin_from_full_sort(n, radius=1.0)(x), MaxMin()(x))
    with pytest.raises(ValueError, match="n must be even: got 3"):
        maxmin_from_full_sort(3, 1.0)


@pytest.mark.parametrize("p", [1, 2, inf])
@pytest.mark.parametrize("dim", [1, 3])
def test_the_lattice_argument_interpolates_any_admissible_values_at_slope_1(p, dim):
    points = draw(7, dim)
    # values of a 1-Lipschitz function, with some pairs at the limit
    values = torch.linalg.vector_norm(points - points[0], p, dim=1) - torch.linalg.vector_norm(points, p, dim=1).clamp(
        max=1
    )
    distance = torch.linalg.vector_norm(points[:, None] - points[None], p, dim=2)
    steepness = ((values[:, None] - values[None]).abs() / distance.clamp(min=1e-12)).max()
    network = lattice_interpolant(points, values / steepness, p)
    torch.testing.assert_close(network(points)[:, 0], values / steepness)
    x, y = 3 * draw(2000, dim, seed=1), 3 * draw(2000, dim, seed=2)
    slope = (network(x) - network(y)).abs()[:, 0] / torch.linalg.vector_norm(x - y, p, dim=1)
    assert slope.max() <= 1 + 1e-12
    # proven too: first layer from p to inf, the rest in the inf-norm
    first = torch.linalg.vector_norm(network[0].weight, {1: inf, 2: 2, inf: 1}[p], dim=1).max()
    assert first.item() == pytest.approx(1)
    assert lipschitz_constant(network[1:], inf) == pytest.approx(1)


def test_values_that_differ_more_than_their_points_are_refused():
    points = torch.tensor([[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match=r"1\.5 against 1 between 0 and 1"):
        lattice_interpolant(points, torch.tensor([0.0, 1.5, 2.0]))


def norms_of_gradients(model, x):
    return jacobians(model, x).flatten(1).norm(dim=1)


def test_a_network_that_keeps_the_norm_of_its_gradient_may_be_made_orthonormal():
    # |x|: the second layer sees only the direction (-1, 1), so that its other singular value, 0.3, is free
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    loose = turn @ torch.diag(torch.tensor([1.0, 0.3], dtype=torch.float64)) @ turn.T
    root = math.sqrt(0.5)
    model = nn.Sequential(affine([[root], [-root]]), MaxMin(), affine(loose), MaxMin(), affine([[-root, root]]))
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None] + 1e-3
    torch.testing.assert_close(norms_of_gradients(model, x), torch.ones(41, dtype=torch.float64))
    changed = orthonormalised(model)
    torch.testing.assert_close(torch.linalg.svdvals(changed[2].weight), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(changed(x), model(x))
    torch.testing.assert_close(torch.linalg.svdvals(model[2].weight)[1].item(), 0.3)  # the original is untouched


def test_a_network_that_loses_gradient_changes_when_made_orthonormal():
    model = nn.Sequential(affine([[0.5], [-0.5]]), MaxMin(), affine([[-0.5, 0.5]]))
    x = torch.ones(1, 1, dtype=torch.float64)
    assert (orthonormalised(model)(x) - model(x)).abs() > 0.1


@pytest.mark.parametrize("activation", ["ReLU", "tanh"])
def test_a_constrained_monotone_network_with_slope_1_at_two_points_is_straight_between_them(activation):
    # The negative result, contraposed: networks that bend have a gradient below 1 somewhere.
    for seed in range(10):
        model = LipschitzMLP([2, 16, 16, 1], activation, seed=seed, dtype=torch.float64).eval()
        with torch.no_grad():
            for layer in model:
                if hasattr(layer, "bias"):
                    layer.bias.copy_(0.3 * draw(len(layer.bias), seed=seed))
        x = draw(300, 2, seed=seed)
        middle = (model(x) + model(x.flip(0))) / 2 - model((x + x.flip(0)) / 2)
        assert middle.abs().max() > 1e-3  # it bends
        assert norms_of_gradients(model, x).min() < 0.99


def test_a_relu_network_of_one_hidden_layer_reaches_half_the_slope_of_the_absolute_value_and_no_more():
    # f(1) + f(-1) - 2 f(0) <= sum |v_i| |w_i| <= |v| |w| = 1 for unit vectors, so that the estimate is at most 1/2
    root = math.sqrt(0.5)
    best = nn.Sequential(affine([[root], [-root]]), nn.ReLU(), affine([[root, root]]))
    ends, middle = (
        best(torch.tensor([[1.0], [-1.0]], dtype=torch.float64)),
        best(torch.zeros(1, 1, dtype=torch.float64)),
    )
    assert (ends.mean() - middle).item() == pytest.approx(relu_ceiling(1)) == 0.5
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        w, v, b = (torch.randn(8, generator=generator, dtype=torch.float64) for _ in range(3))
        w, v = w / w.norm(), v / v.norm()

        def f(x, w=w, v=v, b=b):
            return (v * (w * x + b).relu()).sum()

        assert (f(1) + f(-1)) / 2 - f(0) <= 0.5 + 1e-12


def test_the_observed_ceilings_rise_towards_1():
    values = [relu_ceiling(h) for h in range(1, 40)]
    assert values == sorted(values)
    assert values[:3] == pytest.approx([1 / 2, 1 / math.sqrt(3), 2 / 3])
    assert 0.9 < values[-1] < 1
    with pytest.raises(ValueError, match="hidden_layers must be a whole number of at least 1: got 0"):
        relu_ceiling(0)


def test_sorting_networks_report_no_loss():
    report = lipschitz_report(maxmin_from_abs(), draw(20, 2))
    assert report.lower == pytest.approx(1)
    assert report.upper == pytest.approx(1)


@pytest.mark.parametrize("weight", [[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0]], [[inf, 0.0]]])
def test_a_layer_without_full_rank_has_no_orthonormal_one(weight):
    layer = torch.nn.Linear(2, len(weight))
    layer.weight.data = torch.tensor(weight)
    with pytest.raises(ValueError, match="model must have linear layers of full rank: layer 0 is not"):
        orthonormalised(torch.nn.Sequential(layer))
