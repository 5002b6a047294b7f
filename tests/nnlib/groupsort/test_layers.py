"""Layers keep their constraint, projections are nearest points, and K is shared over the layers."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.groupsort import (
    CONSTRAINTS,
    JacobianPenalty,
    LipschitzMLP,
    ParsevalLinear,
    RowLinear,
    SpectralLinear,
    plain_mlp,
    project_rows,
)
from nnlib.lipschitz import (
    bjorck,
    jacobians,
    layer_bounds,
    lipschitz_constant,
    lipschitz_report,
    project_,
    project_every,
)
from nnlib.training import fit
from tenpapers.data import load
from tests.oracles.groupsort import nearest_in_l1_ball
from tests.oracles.lipschitz import operator_norm

inf = math.inf
ACTIVATIONS = ["MaxMin", "GroupSort4", "FullSort", "Maxout", "Abs", "ReLU", "tanh"]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0.3, 1.0, 4.0])
def test_projection_onto_the_ball_is_the_nearest_point(seed, size):
    row = size * draw(6, seed=seed)
    torch.testing.assert_close(project_rows(row[None], 1)[0], nearest_in_l1_ball(row), rtol=0, atol=1e-5)


def test_the_ball_leaves_a_row_inside_and_the_sphere_inflates_it():
    row = torch.tensor([[0.1, 0.2, -0.1]], dtype=torch.float64)
    torch.testing.assert_close(project_rows(row, 1, "ball"), row)
    torch.testing.assert_close(project_rows(row, 1, "sphere"), torch.tensor([[0.3, 0.4, -0.3]], dtype=torch.float64))
    outside = 3 * draw(4, 6)
    torch.testing.assert_close(project_rows(outside, 1, "ball"), project_rows(outside, 1, "sphere"))


@pytest.mark.parametrize("norm", [1, 2, inf])
@pytest.mark.parametrize("onto", ["ball", "sphere", "scaling"])
@pytest.mark.parametrize("size", [0.05, 1.0, 10.0])
def test_rows_end_within_the_ball_or_on_the_sphere_and_stay_there(norm, onto, size):
    weight = size * draw(5, 7)
    found = project_rows(weight, norm, onto)
    sizes = torch.linalg.vector_norm(found, norm, dim=1)
    assert (sizes <= 1 + 1e-12).all()
    if onto != "ball":
        torch.testing.assert_close(sizes, torch.ones_like(sizes))
    torch.testing.assert_close(project_rows(found, norm, onto), found)
    assert (found.sign() * weight.sign() >= 0).all()


def test_the_gradient_of_a_projection_passes_where_entries_are_kept():
    weight = torch.tensor([[2.0, 0.1, -1.5]], dtype=torch.float64, requires_grad=True)
    found = project_rows(weight, 1)
    torch.testing.assert_close(found.detach(), torch.tensor([[0.75, 0.0, -0.25]], dtype=torch.float64))
    found.sum().backward()
    assert weight.grad.tolist() == [[1.0, 0.0, 1.0]]


def test_a_row_of_zeros_has_no_place_on_a_sphere():
    assert (project_rows(torch.zeros(1, 3), 1) == 0).all()
    with pytest.raises(ValueError, match=r"no row of zeros .* on the sphere: row 1"):
        project_rows(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), 1, "sphere")


@pytest.mark.parametrize("p", [1, 2, inf])
@pytest.mark.parametrize("onto", ["ball", "sphere", "scaling"])
@pytest.mark.parametrize("when", ["forward", "step"])
def test_row_layers_are_bounded_from_their_norm_to_the_largest_logit(p, onto, when):
    layer = RowLinear(5, 4, p=p, onto=onto, when=when, gain=2.0, dtype=torch.float64)
    with torch.no_grad():
        layer.raw.add_(draw(4, 5))
    if when == "step":
        assert layer.lipschitz_bound()[1] > 0.1  # it was pushed off, and says so
        project_(layer)
    bound, residual = layer.lipschitz_bound()
    assert operator_norm(layer.weight.detach(), p, inf) <= bound <= 2 * (1 + 1e-12)
    assert residual < 1e-12


def test_spectral_normalisation_makes_one_singular_value_1_and_leaves_the_others_behind():
    layer = SpectralLinear(8, 8, gain=3.0, dtype=torch.float64)
    with torch.no_grad():
        layer.raw.copy_(draw(8, 8))
    for _ in range(300):
        _ = layer.weight
    values = torch.linalg.svdvals(layer.weight)
    torch.testing.assert_close(values, 3 * torch.linalg.svdvals(layer.raw) / torch.linalg.svdvals(layer.raw)[0])
    bound, residual = layer.lipschitz_bound()
    assert bound == pytest.approx(3.0)
    assert residual < 1e-10


def test_spectral_normalisation_with_too_few_iterations_exceeds_its_gain_and_says_so():
    layer = SpectralLinear(8, 8, dtype=torch.float64)
    with torch.no_grad():
        layer.raw.copy_(draw(8, 8))
    bound, residual = layer.eval().lipschitz_bound()
    assert bound > 1.01
    assert residual == pytest.approx(bound - 1)


def test_power_iterations_run_in_training_only_and_are_no_parameter():
    layer = SpectralLinear(4, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.raw.copy_(draw(4, 4))
    layer.eval()
    before = layer.u.clone()
    layer(draw(2, 4))
    assert torch.equal(layer.u, before)
    layer.train()(draw(2, 4))
    assert not torch.equal(layer.u, before)
    assert set(dict(layer.named_parameters())) == {"raw", "bias"}
    assert "u" in layer.state_dict()


def test_two_forward_passes_before_a_backward_pass_are_allowed():
    layer = SpectralLinear(4, 4)
    (layer(torch.ones(1, 4)) + layer(torch.ones(1, 4))).sum().backward()
    assert layer.raw.grad.isfinite().all()


def test_parseval_steps_lead_to_the_orthonormal_matrix_and_the_bound_is_measured_on_the_way():
    layer = ParsevalLinear(5, 4, dtype=torch.float64)
    with torch.no_grad():
        layer.raw.add_(0.2 * draw(4, 5))
    limit = bjorck(layer.raw.detach())
    bound, residual = layer.lipschitz_bound()
    assert bound == pytest.approx(torch.linalg.svdvals(layer.raw)[0].item())
    assert residual > 0.1
    for _ in range(30):
        layer.project_()
    torch.testing.assert_close(layer.weight.detach(), limit)


@pytest.mark.parametrize("constraint", list(CONSTRAINTS))
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_constant_is_shared_over_the_layers(constraint, activation):
    model = LipschitzMLP([6, 8, 8, 4], activation, constraint, constant=27.0, dtype=torch.float64)
    bounds = [row.bound for row in layer_bounds(model) if hasattr(row.layer, "raw")]
    assert bounds == pytest.approx([3.0, 3.0, 3.0])
    assert lipschitz_constant(model) == pytest.approx(27.0)
    report = lipschitz_report(model, draw(10, 6), steps=5)
    assert report.lower <= report.upper * (1 + 1e-9)


@pytest.mark.parametrize("activation", ["MaxMin", "GroupSort4", "FullSort", "Abs"])
def test_gradients_keep_their_norm_through_björck_and_sorting(activation):
    model = LipschitzMLP([8, 8, 8, 8], activation, dtype=torch.float64)
    values = torch.linalg.svdvals(jacobians(model.eval(), draw(5, 8)))
    torch.testing.assert_close(values, torch.ones_like(values))


@pytest.mark.parametrize("constraint", list(CONSTRAINTS))
def test_training_keeps_every_constraint(constraint):
    data = load("digits").to(dtype=torch.float64)
    model = LipschitzMLP([64, 16, 10], "MaxMin", constraint, dtype=torch.float64)
    optimizer = project_every(torch.optim.Adam(model.parameters(), 1e-2), model)
    before = model[1].raw.detach().clone()
    fit(model, data, optimizer, batch_size=100, steps=20, progress=False)
    assert (model[1].raw - before).abs().max() > 1e-3
    slack = {"spectral norm": 0.2, "Parseval": 0.05}.get(constraint, 1e-9)  # these two only come close
    assert lipschitz_constant(model) <= 1 + slack


def test_the_penalty_is_the_largest_singular_value_of_the_mean_jacobian():
    model = plain_mlp([6, 8, 4], seed=1, dtype=torch.float64)
    x = draw(7, 6)
    penalised = JacobianPenalty(model, weight=0.5)
    for _ in range(300):
        out = penalised(x)
    exact = torch.linalg.matrix_norm(jacobians(model, x).mean(0), 2)
    assert penalised.penalty.item() == pytest.approx(0.5 * exact.item(), rel=1e-9)
    loss = penalised.loss(cross_entropy)(out, torch.zeros(7, dtype=torch.long))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    plain = cross_entropy(model(x), torch.zeros(7, dtype=torch.long))
    assert loss.item() == pytest.approx(plain.item() + 0.5 * exact.item(), rel=1e-6)


def test_the_penalty_has_the_gradient_of_the_singular_value():
    model = nn.Linear(4, 3, bias=False).double()
    penalised = JacobianPenalty(model, weight=1.0)
    for _ in range(500):
        penalised(draw(5, 4))
    (found,) = torch.autograd.grad(penalised.penalty, model.weight)
    (exact,) = torch.autograd.grad(torch.linalg.matrix_norm(model.weight, 2), model.weight)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)
    penalised.eval()(draw(5, 4))
    assert penalised.penalty == 0


def test_the_penalty_goes_on_with_inputs_of_another_size():
    """Breaks if the direction of the last batch is kept where it no longer fits."""
    penalised = JacobianPenalty(torch.nn.AdaptiveAvgPool1d(2))
    for size in (4, 6):
        assert penalised(draw(5, size)).shape == (5, 2) and penalised.penalty > 0


def test_dropout_is_on_the_inputs_and_on_hidden_units():
    kinds = [(type(layer).__name__, getattr(layer, "p", None)) for layer in plain_mlp([4, 3, 3, 2], dropout=True)]
    assert [kind for kind in kinds if kind[0] == "Dropout"] == [("Dropout", 0.2), ("Dropout", 0.5), ("Dropout", 0.5)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LipschitzMLP([3], "MaxMin"), "sizes must be two or more whole numbers"),
        (lambda: LipschitzMLP([3, 0, 2], "MaxMin"), "sizes must be a whole number of at least 1: got 0"),
        (lambda: LipschitzMLP([3, 5, 2], "MaxMin"), "sizes must make groups of 2 for .*: got 5 features"),
        (lambda: plain_mlp([3, 6, 2], "GroupSort4"), "sizes must make groups of 4 for .*: got 6 features"),
        (lambda: LipschitzMLP([3, 2], constraint="none"), "constraint must be one of Björck"),
        (lambda: LipschitzMLP([3, 2], constant=0.0), "constant must be a number in .* got 0"),
        (lambda: LipschitzMLP([3, 4, 2], "sort"), "activation must be one of MaxMin"),
        (lambda: RowLinear(3, 2, p=3), "p must be 1, 2 or inf: got 3"),
        (lambda: RowLinear(3, 2, when="never"), "when must be one of forward, step"),
        (lambda: RowLinear(3, 2, onto="cube"), "onto must be one of ball, sphere, scaling: got 'cube'"),
        (lambda: SpectralLinear(3, 2, gain=-1.0), "gain must be a number in .* got -1"),
        (lambda: SpectralLinear(3, 2)(torch.zeros(4, 2)), r"x must have shape \(..., 3\): got \(4, 2\)"),
        (lambda: plain_mlp([3, 2], "Maxout"), "activation must be one of MaxMin, GroupSort4, FullSort, Abs"),
        (lambda: JacobianPenalty(torch.nn.Linear(3, 2))(torch.zeros(0, 3)), r"x must have shape \(n, ...\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scale", [1e7, 1e20, 1e38])
def test_rows_far_outside_are_projected_onto_the_surface_and_rows_that_are_not_finite_are_refused(scale):
    """In float32 c_1 - 1 is c_1 there; breaks if 1 is lost beside the entries, so that nothing of a row is left."""
    outside = scale * draw(3, 4).float().clamp(-0.8, 0.8)
    rows = project_rows(outside, 1)
    torch.testing.assert_close(rows.abs().sum(1), torch.ones(3))
    assert (rows * outside >= 0).all()
    with pytest.raises(ValueError, match="row 1 is not"):
        project_rows(torch.tensor([[1.0, 2.0], [inf, 0.0]]), 1)


@pytest.mark.parametrize("shape", [3, (3, -1), (2.0,)])
def test_a_shape_that_is_none_is_refused(shape):
    with pytest.raises((TypeError, ValueError), match=r"shape must be (Sequence or None|a whole number of at least 1)"):
        lipschitz_constant(torch.nn.ReLU(), shape=shape)
