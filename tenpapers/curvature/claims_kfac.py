"""Where are Kronecker factors exact, and what do they leave out? Claims of arXiv 1503.05671 and 1806.03884.

Chapter: ``book/curvature.ipynb``.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlib.curvature import dense_fisher, factors, layer_index, rescale
from nnlib.models import MLP
from tenpapers.claims import Claim, Direction, Evidence, Exact, Sample
from tenpapers.claims import sample as sample_of
from tenpapers.curvature import runs
from tenpapers.curvature.measure import relative_error
from tenpapers.curvature.workloads import drawn, random_layer, softmax_regression

FACTORS = "tests/nnlib/curvature/test_factors.py::"
MEASURES = "tests/tenpapers/curvature/test_measure.py::"
BOTH = ("laptop", "paper")


def _kronecker_error(profile: str) -> Evidence:
    model, x = softmax_regression(1.0)
    p = model(x).detach().softmax(1)
    outer = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # E[ds ds' | x], (B, 3, 3)
    inputs = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    squares = inputs[:, :, None] * inputs[:, None]  # (B, 3, 3)
    centred = outer - outer.mean(0), squares - squares.mean(0)
    covariance = torch.einsum("bij,bkl->ikjl", *centred).reshape(9, 9) / len(x)
    index = layer_index(model, "0")
    left_out = dense_fisher(model, x)[index][:, index] - factors(model, x)["0"].dense()
    return Evidence({"relative error": relative_error(left_out, covariance)})


kronecker_error = Claim(
    "curvature",
    "kronecker_error",
    "The error of a Kronecker-factored block is the covariance of the products of gradients with the products of "
    "inputs",
    "1503.05671, section 3.1",
    Exact(1e-10),
    _kronecker_error,
    same=BOTH,
    test=MEASURES + "test_error_of_kfac_is_the_covariance_of_the_two_outer_products",
)


def block_errors(model: nn.Module, x: Tensor, likelihood: str) -> dict[str, float]:
    """Relative error of each layer's Kronecker-factored block."""
    whole, found = dense_fisher(model, x, likelihood), {}
    for name, block in factors(model, x, likelihood=likelihood).items():
        index = layer_index(model, name)
        found[f"layer {name}"] = relative_error(block.dense(), whole[index][:, index])
    return found


def _exact_linear(profile: str) -> Evidence:
    linear = nn.Sequential(random_layer(4, 5, 0), random_layer(5, 6, 1), random_layer(6, 3, 2))
    return Evidence(block_errors(linear, drawn(20, 4), "gaussian"))


exact_linear = Claim(
    "curvature",
    "exact_linear",
    "Where the independence assumption holds the factors are exact: deep linear networks with squared loss",
    "1503.05671, section 3 (the assumption; the case is ours)",
    Exact(1e-10),
    _exact_linear,
    same=BOTH,
    test=FACTORS + "test_factors_of_deep_linear_nets_are_the_gauss_newton_blocks",
)


def _exact_one_example(profile: str) -> Evidence:
    model = MLP([4, 6, 5, 3], seed=0, dtype=torch.float64)
    return Evidence(block_errors(model, drawn(1, 4), "categorical"))


exact_one_example = Claim(
    "curvature",
    "exact_one_example",
    "For one example the Kronecker-factored blocks are exact",
    "1503.05671, section 3 (the assumption; the case is ours)",
    Exact(1e-10),
    _exact_one_example,
    same=BOTH,
    test=FACTORS + "test_factors_of_one_example_are_the_blocks",
)


def _largest(difference: Tensor) -> float:
    return difference.abs().max().item()


def _moved(model: nn.Sequential, x: Tensor, y: Tensor, method: str) -> Tensor:
    """The outputs after a step with lr 0.3 by a copy of the model: squared loss, no damping."""
    model = copy.deepcopy(model)
    (0.5 * (model(x) - y).square().sum(1).mean()).backward()
    for name, block in factors(model, x, likelihood="gaussian").items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear) and layer.weight.grad is not None and layer.bias.grad is not None
        step = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
        if method == "K-FAC":
            step = block.cholesky().solve(step)
        with torch.no_grad():
            layer.weight.sub_(0.3 * step[:, :-1])
            layer.bias.sub_(0.3 * step[:, -1])
    return model(x).detach()


def _invariance(profile: str) -> Evidence:
    x, y = drawn(60, 4), drawn(60, 3, seed=9)
    plain = nn.Sequential(random_layer(4, 3, 0), nn.Tanh(), random_layer(3, 3, 1))
    scale, shift = drawn(4, 4, seed=3) + 3 * torch.eye(4, dtype=torch.float64), drawn(4, seed=4)
    units, other = x @ scale.T + shift, copy.deepcopy(plain)  # the same data in other units
    first = plain[0], other[0]
    assert isinstance(first[0], nn.Linear) and isinstance(first[1], nn.Linear)
    with torch.no_grad():
        first[1].weight.copy_(first[0].weight @ torch.linalg.inv(scale))
        first[1].bias.copy_(first[0].bias - first[1].weight @ shift)
    off = {m: _largest(_moved(other, units, y, m) - _moved(plain, x, y, m)) for m in ("K-FAC", "gradient")}
    return Evidence({"K-FAC": off["K-FAC"], "the gradient's step is another": off["gradient"] > 1e-2})


invariance = Claim(
    "curvature",
    "invariance",
    "A step of K-FAC without damping is the same function whatever affine coordinates the inputs have; a gradient "
    "step is not",
    "1503.05671, section 10",
    Exact(1e-8),
    _invariance,
    same=BOTH,
    test=MEASURES + "test_undamped_kfac_is_invariant_to_affine_reparametrisation_and_the_gradient_is_not",
)


def _errors(profile: str, column: str) -> dict[float, Sample]:
    """Relative errors by the scale of the weights, the dial of dependence."""
    groups = runs.dependence.read(profile).groupby("scale")
    return {float(str(scale)): sample_of(part, column) for scale, part in groups}


def _dependence(profile: str) -> Evidence:
    found = _errors(profile, "kfac")
    shown = {f"K-FAC, scale {scale:g}": error for scale, error in found.items()}
    return Evidence(shown, {f"scale {a:g} to {b:g}": found[b] - found[a] for a, b in pairwise(found)})


dependence = Claim(
    "curvature",
    "dependence",
    "The more gradients depend on inputs the farther K-FAC is from the Fisher matrix (relative error; from each scale "
    "of the weights to the next)",
    "1806.03884, section 3 (the dial is ours)",
    Direction(),
    _dependence,
    same=(),
    test=MEASURES + "test_kfac_is_exact_where_gradients_do_not_depend_on_inputs_and_ekfac_repairs_part_of_the_rest",
)


def _repairs(profile: str) -> Evidence:
    kfac, ekfac = _errors(profile, "kfac"), _errors(profile, "ekfac")
    shown = {f"EKFAC, scale {scale:g}": error for scale, error in ekfac.items()}
    return Evidence(shown, {f"scale {scale:g}": kfac[scale] - ekfac[scale] for scale in kfac if scale > 0})


ekfac_repairs = Claim(
    "curvature",
    "ekfac_repairs",
    "EKFAC repairs part of K-FAC's error where gradients depend on inputs (relative error, against K-FAC's at the same "
    "scale)",
    "1806.03884, section 3 (the dial is ours)",
    Direction(),
    _repairs,
    equal="model and data",
    same=(),
    test=MEASURES + "test_kfac_is_exact_where_gradients_do_not_depend_on_inputs_and_ekfac_repairs_part_of_the_rest",
)


def _projection(profile: str) -> Evidence:
    model, x = MLP([5, 6, 6, 4], seed=0, dtype=torch.float64), drawn(30, 5)
    blocks, whole, found = factors(model, x), dense_fisher(model, x), {}
    closest = rescale(model, x, {name: block.eigen() for name, block in blocks.items()})
    for name, block in blocks.items():
        index = layer_index(model, name)
        F, K, E = whole[index][:, index], block.dense(), closest[name].dense()
        squares = (F - E).square().sum() + (E - K).square().sum()
        found[f"|F - K|² over |F - E|² + |E - K|², less 1: {name}"] = ((F - K).square().sum() / squares - 1).item()
    return Evidence(found)


ekfac_projection = Claim(
    "curvature",
    "ekfac_projection",
    "EKFAC is never farther from the Fisher matrix than K-FAC in the Frobenius norm",
    "1806.03884, section 3",
    Exact(1e-10),
    _projection,
    same=BOTH,
    test=FACTORS + "test_ekfac_is_never_farther_from_the_fisher_block_than_kfac",
)
