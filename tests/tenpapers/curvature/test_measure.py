"""What the primer says of curvature, claim by claim. Chapter: ``book/curvature.ipynb``."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from nnlib.curvature import (
    KFAC,
    dense_fisher,
    dense_hessian,
    factors,
    layer_index,
    rescale,
)
from nnlib.models import MLP
from tenpapers.curvature import measure, workloads
from tenpapers.data import load

close = torch.testing.assert_close


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(*sizes: int, seed: int = 0) -> MLP:
    return MLP(sizes, seed=seed, dtype=torch.float64)


def deep_linear(*sizes: int) -> nn.Sequential:
    layers = [nn.Linear(m, n, dtype=torch.float64) for m, n in itertools.pairwise(sizes)]
    for i, layer in enumerate(layers):
        with torch.no_grad():
            layer.weight.copy_(drawn(*layer.weight.shape, seed=i))
            layer.bias.copy_(drawn(len(layer.bias), seed=i + 50))
    return nn.Sequential(*layers)


def test_fisher_matrix_is_the_hessian_of_the_divergence_between_old_and_new_predictions():
    """Breaks if the Fisher matrix depends on the true labels, or is off by a factor."""
    model, x = net(4, 5, 3), drawn(6, 4)
    now = model(x).detach().log_softmax(1)

    def divergence(f, _):
        return (now.exp() * (now - f.log_softmax(1))).sum(1).mean()

    close(dense_hessian(model, x, torch.zeros(6), divergence), dense_fisher(model, x))


def test_natural_gradient_points_at_the_optimum_of_a_linear_fit_and_the_empirical_fisher_matrix_does_not():
    """Breaks if the two Fisher matrices are confused."""
    found = measure.fields()
    towards = found["optimum"] - found["theta"]
    np.testing.assert_allclose(found["natural gradient"], towards, rtol=1e-9, atol=1e-9)
    u = found["empirical Fisher"]
    cosine = (u * towards).sum(1) / np.linalg.norm(u, axis=1) / np.linalg.norm(towards, axis=1)
    assert cosine.min() < 0.5  # more than 60 degrees off somewhere
    # Far from the optimum the residuals are large, and the empirical matrix shortens the step with their square.
    assert np.linalg.norm(u, axis=1).max() < 0.2 * np.linalg.norm(towards, axis=1).max()


def test_undamped_kfac_is_invariant_to_affine_reparametrisation_and_the_gradient_is_not():
    """Breaks if the bias is left out of the homogeneous coordinate, or a factor is on the wrong side."""
    x, y = drawn(60, 4), torch.arange(60) % 3
    plain = deep_linear(4, 3, 3)
    plain.insert(1, nn.Tanh())
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.mul_(0.3)
    scale, shift = drawn(4, 4, seed=3) + 3 * torch.eye(4, dtype=torch.float64), drawn(4, seed=4)
    other = deep_linear(4, 3, 3)
    other.insert(1, nn.Tanh())
    other.load_state_dict(plain.state_dict())
    moved = x @ scale.T + shift  # the same data in other units
    with torch.no_grad():
        other[0].weight.copy_(plain[0].weight @ torch.linalg.inv(scale))
        other[0].bias.copy_(plain[0].bias - other[0].weight @ shift)
    close(other(moved), plain(x))
    after = {}
    for method in ("K-FAC", "gradient"):
        for name, model, inputs in (("plain", plain, x), ("other", other, moved)):
            after[method, name] = stepped(model, inputs, y, method)(inputs)
    # Softmax leaves one direction of S without curvature; the pseudo-inverse leaves it alone in both networks.
    close(after["K-FAC", "other"], after["K-FAC", "plain"], rtol=1e-6, atol=1e-8)
    assert (after["gradient", "other"] - after["gradient", "plain"]).abs().max() > 1e-2


def stepped(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor, method: str) -> nn.Sequential:
    """A copy after one step along the gradient, or along S^+ grad A^+ without damping."""
    copy = deep_linear(4, 3, 3)
    copy.insert(1, nn.Tanh())
    copy.load_state_dict(model.state_dict())
    nn.functional.cross_entropy(copy(x), y).backward()
    for name, block in factors(copy, x).items():
        layer = copy[int(name)]
        grad = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
        if method == "K-FAC":
            grad = torch.linalg.pinv(block.S, hermitian=True, rtol=1e-9) @ grad @ torch.linalg.inv(block.A)
        with torch.no_grad():
            layer.weight -= 0.3 * grad[:, :-1]
            layer.bias -= 0.3 * grad[:, -1]
    return copy


def test_kfac_can_be_farther_from_the_fisher_matrix_than_zero_and_still_give_better_directions_than_the_gradient():
    """The second layer of the page's network; breaks if the picture is no longer what the page says."""
    model, x, y = workloads.network(20)
    found = measure.approximations(model, x)["layers.3"]
    F, K = found["Fisher"], found["K-FAC"]
    assert measure.relative_error(K, F) > 1 > measure.relative_error(found["diagonal"], F)
    loss = nn.functional.cross_entropy(model(x), y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    g = torch.cat([grad.flatten() for grad in grads])[layer_index(model, "layers.3")]
    damp = 0.03 * torch.eye(len(g), dtype=torch.float64)
    share = {
        name: measure.decrease_share(torch.linalg.solve(matrix + damp, g), g, F + damp)
        for name, matrix in (found | {"gradient": torch.zeros_like(F)}).items()
    }
    assert share["Fisher"] == pytest.approx(1)
    assert share["EKFAC"] > share["K-FAC"] > 1.4 * share["diagonal"] > 1.4 * share["gradient"]


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.0])
def test_kfac_is_exact_where_gradients_do_not_depend_on_inputs_and_ekfac_repairs_part_of_the_rest(scale):
    """Breaks if the dial of the explorer does not do what its text says."""
    found = measure.curvatures(scale)
    F, K, E = found["Fisher"], found["K-FAC"], found["EKFAC"]
    if scale == 0:
        close(K, F)
        return
    close((F - K).norm() ** 2, (F - E).norm() ** 2 + (E - K).norm() ** 2)
    assert 0.1 < measure.relative_error(E, F) < 0.7 * measure.relative_error(K, F)
    share = {name: values[:13] for name, values in measure.shares(scale).items()}  # dampings up to 0.1
    assert (share["EKFAC"] > share["K-FAC"]).all() and (share["K-FAC"] > share["diagonal"]).all()
    assert (share["diagonal"] > share["gradient"]).all()


def test_error_of_kfac_is_the_covariance_of_the_two_outer_products():
    """F - S (x) A = Cov(ds ds', x x') for a linear layer; breaks if the factors are not plain second moments."""
    model, x = workloads.softmax_regression(1.0)
    p = model(x).detach().softmax(1)
    outer = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # E[ds ds' | x], (B, 3, 3)
    inputs = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    squares = inputs[:, :, None] * inputs[:, None]  # (B, 3, 3)
    centred = outer - outer.mean(0), squares - squares.mean(0)
    covariance = torch.einsum("bij,bkl->ikjl", *centred).reshape(9, 9) / len(x)
    found = measure.curvatures(1.0)
    close(found["Fisher"] - found["K-FAC"], covariance)


def test_a_convolution_of_one_location_is_a_linear_layer_and_of_many_an_approximation_even_for_one_datum():
    """Breaks if the number of locations is not undone in A, or is undone twice."""
    x = drawn(1, 2, 3, 3)
    conv = nn.Conv2d(2, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(drawn(4, 2, 3, 3, seed=1))
        conv.bias.copy_(drawn(4, seed=2))
    for pad, exactly in ((0, True), (1, False)):
        conv.padding, conv._reversed_padding_repeated_twice = (pad, pad), [pad] * 4
        head = nn.Linear(4 if exactly else 36, 3, dtype=torch.float64)
        with torch.no_grad():
            head.weight.copy_(drawn(*head.weight.shape, seed=3))
            head.bias.zero_()
        model = nn.Sequential(conv, nn.Flatten(), head)
        index = layer_index(model, "0")
        error = measure.relative_error(factors(model, x)["0"].dense(), dense_fisher(model, x)[index][:, index])
        assert (error < 1e-10) == exactly


def test_kfc_with_eigenvalues_corrected_is_closer_than_kfc_and_than_the_diagonal_on_a_small_cnn():
    """Breaks if patches or locations are mixed up: the errors would be near or above one."""
    train = load("digits").train
    x = train.x[:64].double()
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, dtype=torch.float64), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10, dtype=torch.float64)
    )
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=i) * 0.2)
    index = layer_index(model, "0")
    exact = dense_fisher(model, x)[index][:, index]
    block = factors(model, x, layers=["0"])
    ekfac = rescale(model, x, {"0": block["0"].eigen()})["0"]
    errors = [measure.relative_error(m, exact) for m in (ekfac.dense(), block["0"].dense(), exact.diagonal().diag())]
    assert errors == sorted(errors) and errors[0] < 0.8


def test_ten_steps_of_kfac_go_lower_than_ten_of_gradient_descent_on_the_small_network():
    """Live, not from the record, each with the best of its learning rates; breaks if a step is not preconditioned."""
    _, x, y = workloads.network(0)
    lowest = {}
    for name, lrs in (("K-FAC", (0.3, 0.5, 0.7)), ("SGD", (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0))):
        for lr in lrs:
            model = net(9, 6, 6, 4)
            often = {"update_factors_every": 1, "update_inverses_every": 1, "fisher": "exact", "momentum": 0.0}
            optimizer = KFAC(model, lr, 0.03, **often) if name == "K-FAC" else torch.optim.SGD(model.parameters(), lr)
            for _ in range(10):
                loss = nn.functional.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            final = nn.functional.cross_entropy(model(x), y).item()
            lowest[name] = min(final, lowest.get(name, np.inf))
    assert lowest["K-FAC"] < 0.6 * lowest["SGD"]


def test_steps_of_the_empirical_fisher_matrix_are_shortest_where_the_fit_is_worst():
    """Over the grid; breaks if true and drawn residuals are confused. The natural gradient's all reach the optimum."""
    rows = {row["direction"]: row for row in measure.measure_fields(3)}
    assert rows["empirical Fisher"]["order"] < -0.5 and rows["empirical Fisher"]["largest_angle"] > 60
    assert np.isnan(rows["natural gradient"]["order"]) and rows["natural gradient"]["longest"] == pytest.approx(1)
    assert rows["natural gradient"]["largest_angle"] < 1e-3 < rows["gradient"]["mean_angle"]


def test_rows_of_directions_are_those_of_each_layer_and_method():
    """Against one layer written out; breaks if a share is of another layer's gradient, or damping is left out."""
    model, x, y = workloads.network(5, 3)
    rows = {(row["layer"], row["method"]): row for row in measure.measure_directions(5, 0.1, 3)}
    assert len(rows) == 12 and {layer for layer, _ in rows} == set(workloads.LAYERS.values())
    index = layer_index(model, "layers.5")
    grads = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), list(model.parameters()))
    g = torch.cat([grad.flatten() for grad in grads])[index]
    F, K = dense_fisher(model, x)[index][:, index], factors(model, x)["layers.5"].dense()
    damp = 0.1 * torch.eye(len(g), dtype=torch.float64)
    u = torch.linalg.solve(K + damp, g)
    cosine = (g @ u) ** 2 / ((u @ (F + damp) @ u) * (g @ torch.linalg.solve(F + damp, g)))
    row = rows["last layer", "K-FAC"]
    assert row["share"] == pytest.approx(cosine.item()) and row["error"] == pytest.approx(
        ((K - F).norm() / F.norm()).item()
    )
    assert rows["last layer", "gradient"]["error"] == pytest.approx(1)


def test_a_row_of_dependence_is_of_its_own_seed_and_scale():
    row = measure.measure_dependence(1.0, 4)
    model, x = workloads.softmax_regression(1.0, 4)
    index = layer_index(model, "0")
    exact = dense_fisher(model, x)[index][:, index]
    block = factors(model, x)["0"]
    assert row["kfac"] == pytest.approx(((block.dense() - exact).norm() / exact.norm()).item())
    assert row["ekfac"] < row["kfac"] and -1 < row["correlation"] < -0.1
    assert measure.measure_dependence(1.0, 5)["kfac"] != row["kfac"]


def test_a_row_of_convolutions_is_of_other_images_for_each_seed():
    """Breaks if the errors are of other matrices than their names say."""
    row = measure.measure_convolution(16, 2)
    model, x = workloads.small_cnn(2), load("digits").train.x[32:48].double()
    index = layer_index(model, "0")
    exact = dense_fisher(model, x)[index][:, index]
    kfc = factors(model, x, layers=["0"])["0"].dense()
    assert row["kfc"] == pytest.approx(((kfc - exact).norm() / exact.norm()).item())
    off_diagonal = exact - exact.diagonal().diag()
    assert row["diagonal"] == pytest.approx((off_diagonal.norm() / exact.norm()).item())
    assert row["corrected"] < row["kfc"] < row["diagonal"]
