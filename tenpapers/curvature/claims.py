"""What four papers say of curvature, and what decides it here.

Identities are computed here and now on random networks; what is drawn or trained is judged over seeds.
Papers: arXiv 1503.05671, 1602.01407, 1806.03884, 1905.12558. Chapter: ``book/curvature.ipynb``.
"""

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlib.curvature import (
    Kronecker,
    dense_fisher,
    dense_hessian,
    factors,
    jacobian,
    layer_index,
    rescale,
)
from nnlib.models import MLP
from tenpapers.claims import Claim, Direction, Evidence, Exact, Sample, Threshold, Unfair, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.claims.ledger import tables_of
from tenpapers.curvature import runs
from tenpapers.curvature.measure import fields, relative_error
from tenpapers.curvature.workloads import softmax_regression

DENSE, FACTORS = "tests/nnlib/curvature/test_dense.py::", "tests/nnlib/curvature/test_factors.py::"
MEASURES = "tests/tenpapers/curvature/test_measure.py::"
BOTH = ("laptop", "paper")


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _layer(n_in: int, n_out: int, seed: int) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(_drawn(n_out, n_in, seed=seed))
        layer.bias.copy_(_drawn(n_out, seed=seed + 50))
    return layer


def _largest(difference: Tensor) -> float:
    return difference.abs().max().item()


def _fisher_gauss_newton(profile: str) -> Evidence:
    model, x = MLP([4, 5, 3], seed=0, dtype=torch.float64), _drawn(6, 4)
    J, p = jacobian(model, x), model(x).detach().softmax(1)  # (B, C, P), (B, C)
    at_outputs = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # of cross-entropy; of the squared loss I
    matrices = {
        "softmax": (torch.einsum("bcp,bcd,bdq->pq", J, at_outputs, J) / 6, dense_fisher(model, x)),
        "squared loss": (torch.einsum("bcp,bcq->pq", J, J) / 6, dense_fisher(model, x, "gaussian")),
    }
    return Evidence({name: relative_error(ours, fisher) for name, (ours, fisher) in matrices.items()})


fisher_gauss_newton = Claim(
    "curvature",
    "fisher_gauss_newton",
    "For softmax with cross-entropy and for squared loss the Fisher matrix is the generalised Gauss-Newton matrix",
    "1905.12558, section 2; used throughout 1503.05671",
    Exact(1e-12),
    _fisher_gauss_newton,
    same=BOTH,
    test=DENSE + "test_fisher_is_the_gauss_newton_matrix_of_the_loss",
)


def _fisher_divergence(profile: str) -> Evidence:
    model, x = MLP([4, 5, 3], seed=0, dtype=torch.float64), _drawn(6, 4)
    before = model(x).detach().log_softmax(1)

    def divergence(outputs: Tensor, _: Tensor) -> Tensor:
        return (before.exp() * (before - outputs.log_softmax(1))).sum(1).mean()

    hessian = dense_hessian(model, x, torch.zeros(6), divergence)
    return Evidence({"relative error": relative_error(hessian, dense_fisher(model, x))})


fisher_divergence = Claim(
    "curvature",
    "fisher_divergence",
    "The Fisher matrix is the Hessian of the Kullback-Leibler divergence between the predictions before and after a "
    "step",
    "Amari 1998; 1503.05671, section 2",
    Exact(1e-12),
    _fisher_divergence,
    same=BOTH,
    test=MEASURES + "test_fisher_matrix_is_the_hessian_of_the_divergence_between_old_and_new_predictions",
)


def _natural_gradient_linear(profile: str) -> Evidence:
    found = fields()
    return Evidence(
        {"distance from the optimum": abs(found["theta"] + found["natural gradient"] - found["optimum"]).max().item()}
    )


natural_gradient_linear = Claim(
    "curvature",
    "natural_gradient_linear",
    "On a linear least-squares fit one natural-gradient step lands on the optimum from anywhere",
    "Amari 1998; 1905.12558, section 4",
    Exact(1e-9),
    _natural_gradient_linear,
    same=BOTH,
    test=MEASURES
    + "test_natural_gradient_points_at_the_optimum_of_a_linear_fit_and_the_empirical_fisher_matrix_does_not",
)


def _empirical_fisher(profile: str) -> Evidence:
    frame = runs.fields.read(profile, direction="empirical Fisher")
    shown = {"mean angle": sample_of(frame, "mean_angle"), "largest angle": sample_of(frame, "largest_angle")}
    return Evidence(shown, {"largest angle": shown["largest angle"]})


empirical_fisher = Claim(
    "curvature",
    "empirical_fisher",
    "The empirical Fisher matrix is not a curvature: on a linear least-squares fit its direction misses the optimum "
    "by a wide angle (somewhere by more than 60°)",
    "1905.12558, sections 3 and 4",
    Threshold(above=60.0),
    _empirical_fisher,
    same=(),
    test=MEASURES
    + "test_natural_gradient_points_at_the_optimum_of_a_linear_fit_and_the_empirical_fisher_matrix_does_not",
)
empirical_fisher_steps = Claim(
    "curvature",
    "empirical_fisher_steps",
    "On the same fit the steps of the empirical Fisher matrix are shortest where the fit is worst (rank correlation of "
    "the loss with the length of the step over the distance)",
    "1905.12558, sections 3 and 4",
    Threshold(below=0.0),
    lambda profile: Evidence(
        {"rank correlation": sample_of(runs.fields.read(profile, direction="empirical Fisher"), "order")}
    ),
    same=(),
    test=MEASURES + "test_steps_of_the_empirical_fisher_matrix_are_shortest_where_the_fit_is_worst",
)


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


def _block_errors(model: nn.Module, x: Tensor, likelihood: str) -> dict[str, float]:
    """Relative error of each layer's Kronecker-factored block."""
    whole, found = dense_fisher(model, x, likelihood), {}
    for name, block in factors(model, x, likelihood=likelihood).items():
        index = layer_index(model, name)
        found[f"layer {name}"] = relative_error(block.dense(), whole[index][:, index])
    return found


def _exact_linear(profile: str) -> Evidence:
    linear = nn.Sequential(_layer(4, 5, 0), _layer(5, 6, 1), _layer(6, 3, 2))
    return Evidence(_block_errors(linear, _drawn(20, 4), "gaussian"))


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
    return Evidence(_block_errors(model, _drawn(1, 4), "categorical"))


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
    x, y = _drawn(60, 4), _drawn(60, 3, seed=9)
    plain = nn.Sequential(_layer(4, 3, 0), nn.Tanh(), _layer(3, 3, 1))
    scale, shift = _drawn(4, 4, seed=3) + 3 * torch.eye(4, dtype=torch.float64), _drawn(4, seed=4)
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
    model, x = MLP([5, 6, 6, 4], seed=0, dtype=torch.float64), _drawn(30, 5)
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


def _directions(profile: str, column: str) -> dict[tuple[str, str], Sample]:
    groups = runs.directions.read(profile).groupby(["layer", "method"], sort=False)
    return {(str(layer), str(method)): sample_of(part, column) for (layer, method), part in groups}


def _direction(profile: str) -> Evidence:
    found = _directions(profile, "share")
    layers = list(dict.fromkeys(layer for layer, _ in found))
    shown = {f"{method}, {layer}": share for (layer, method), share in found.items()}
    ahead = {
        f"{layer}, over the {other}": found[layer, "K-FAC"] - found[layer, other]
        for layer in layers
        for other in ("diagonal", "gradient")
    }
    return Evidence(shown, ahead)


direction = Claim(
    "curvature",
    "direction",
    "K-FAC's direction brings a larger share of the best decrease than the diagonal's or the gradient's",
    "ours; 1503.05671 and 1806.03884 judge by training",
    Direction(),
    _direction,
    equal="network, examples, damping (0.03)",
    same=(),
    test=MEASURES
    + "test_kfac_can_be_farther_from_the_fisher_matrix_than_zero_and_still_give_better_directions_than_the_gradient",
)


def _farther(profile: str) -> Evidence:
    frame = runs.directions.read(profile)
    cases = frame.pivot(index=["seed", "layer"], columns="method", values=["error", "share"])
    far = cases[cases["error"]["K-FAC"] > 1]
    networks = far["share"].groupby("seed").mean()  # layers of one network are one case
    shares = {str(method): Sample(tuple(networks[method])) for method in networks}
    ahead = {f"over the {other}": shares["K-FAC"] - shares[other] for other in ("diagonal", "gradient")}
    shown = {"layers": len(far), "of": len(cases), "networks": len(networks)}
    return Evidence(shown | {f"{method}, share": share for method, share in shares.items()}, ahead)


farther_than_zero = Claim(
    "curvature",
    "farther_than_zero",
    "K-FAC's direction does so even where its matrix is farther from the Fisher matrix than zero (layers in which its "
    "relative error is above 1, over the networks that have any)",
    "ours",
    Direction(),
    _farther,
    equal="network, examples, damping (0.03)",
    same=(),
    test=MEASURES
    + "test_kfac_can_be_farther_from_the_fisher_matrix_than_zero_and_still_give_better_directions_than_the_gradient",
)


def _kfc(profile: str) -> Evidence:
    frame = runs.convolutions.read(profile)
    names = {"KFC": "kfc", "KFC, eigenvalues corrected": "corrected", "diagonal": "diagonal"}
    found = {shown: sample_of(frame, column) for shown, column in names.items()}
    zero = Sample((1.0,) * found["KFC"].n)
    return Evidence(
        found,
        {f"than {what}": other - found["KFC"] for what, other in (("zero", zero), ("the diagonal", found["diagonal"]))},
    )


kfc = Claim(
    "curvature",
    "kfc",
    "KFC approximates a convolution's Fisher block from one matrix of patches and one of gradients (relative errors: "
    "closer than zero, and than the diagonal)",
    "1602.01407, section 3",
    Direction(),
    _kfc,
    equal="convolution and images",
    same=(),
    test=MEASURES + "test_kfc_with_eigenvalues_corrected_is_closer_than_kfc_and_than_the_diagonal_on_a_small_cnn",
)


def _kfc_one_location(profile: str) -> Evidence:
    found, x = {}, _drawn(1, 2, 3, 3)
    for locations, size in (("one", 3), ("four", 2)):
        conv = nn.Conv2d(2, 4, size, dtype=torch.float64)
        head = _layer(4 * (4 - size) ** 2, 3, 3)
        with torch.no_grad():
            conv.weight.copy_(_drawn(4, 2, size, size, seed=1))
            conv.bias.copy_(_drawn(4, seed=2)) if conv.bias is not None else None
        found[locations] = _block_errors(nn.Sequential(conv, nn.Flatten(), head), x, "categorical")["layer 0"]
    return Evidence({"one location": found["one"], "four locations: off": found["four"] > 1e-2})


kfc_one_location = Claim(
    "curvature",
    "kfc_one_location",
    "With one location KFC is K-FAC of a linear layer; with several it is approximate even for one example",
    "1602.01407, section 3",
    Exact(1e-10),
    _kfc_one_location,
    same=BOTH,
    test=MEASURES
    + "test_a_convolution_of_one_location_is_a_linear_layer_and_of_many_an_approximation_even_for_one_datum",
)


def _pi(profile: str) -> Evidence:
    a, s, damping = _drawn(8, 6), _drawn(9, 4, seed=1), 0.1
    block = Kronecker(a.T @ a, s.T @ s)
    (n, m), eye = block.shape, torch.eye(24, dtype=torch.float64)
    trace_A, trace_S = block.A.trace(), block.S.trace()
    pi = (trace_A * n / (trace_S * m)).sqrt()
    cross = damping**0.5 * (
        pi * torch.kron(block.S, torch.eye(m, dtype=torch.float64))
        + torch.kron(torch.eye(n, dtype=torch.float64), block.A) / pi
    )
    others = pi * torch.linspace(0.5, 2, 301, dtype=torch.float64)
    traces = damping**0.5 * (others * trace_S * m + trace_A * n / others)
    off = block.damped(damping).dense() - block.dense() - damping * eye
    return Evidence(
        {"cross terms": relative_error(off, cross), "no smaller trace": bool(off.trace() <= traces.min() + 1e-9)}
    )


pi = Claim(
    "curvature",
    "pi",
    "The factored damping with pi from the mean traces exceeds exact damping by the cross terms of smallest trace norm",
    "1503.05671, section 6.3",
    Exact(1e-10),
    _pi,
    same=BOTH,
    test="tests/nnlib/curvature/test_kronecker.py::test_pi_damping_is_exact_damping_plus_the_smallest_cross_terms",
)


def _steps(profile: str, batch_size: int, names: tuple[str, ...]) -> dict[str, Sample]:
    """Steps to a training loss of 0.05 on digits, by optimiser, on seeds that had no part in tuning."""
    where = {"workload": "digits", "optimizer": names, "batch_size": batch_size}
    tables = tables_of("nqm")
    frame, tuned = tables["by_seed"].read(profile, **where, decay=0.0), tables["networks"].read(profile, **where)
    if len(at_end := tuned[~tuned.average & tuned.edge.str.contains("lr")]):
        raise Unfair(f"best learning rate at the end of its grid: {', '.join(at_end.optimizer)} at B = {batch_size}")
    held_equal("seeds", {name: (frame.optimizer == name).sum() for name in names})
    if len(lost := frame[frame.steps.isna()]):
        told = ", ".join(lost.optimizer.unique())
        raise Unfair(f"{len(lost)} of {len(frame)} runs did not reach the target: {told} at B = {batch_size}")
    return {name: sample_of(frame[frame.optimizer == name], "steps") for name in names}


def _digits_steps(profile: str) -> Evidence:
    found = _steps(profile, 512, ("SGD", "Momentum", "Adam", "K-FAC"))
    return Evidence(found, {f"{name} less K-FAC": found[name] - found["K-FAC"] for name in ("SGD", "Momentum")})


digits_steps = Claim(
    "curvature",
    "digits_steps",
    "K-FAC makes more progress in a step than SGD with and without momentum (steps to a training loss of 0.05 at batch "
    "size 512)",
    "1503.05671, section 13",
    Direction(),
    _digits_steps,
    equal="network, data, target, seeds; the learning rate (and momentum) of each searched",
    same=(),
    test=MEASURES + "test_ten_steps_of_kfac_go_lower_than_ten_of_gradient_descent_on_the_small_network",
)


def _digits_batch(profile: str) -> Evidence:
    names = ("SGD", "K-FAC")
    small, large = (_steps(profile, batch_size, names) for batch_size in (8, 1400))
    gains = {
        name: Sample(tuple(a / b for a, b in zip(small[name].values, large[name].values, strict=True)))
        for name in names
    }
    return Evidence(gains, {"K-FAC less SGD": gains["K-FAC"] - gains["SGD"]})


digits_batch = Claim(
    "curvature",
    "digits_batch",
    "K-FAC gains more from large batches than SGD (steps at batch size 8 over steps at 1400)",
    "1503.05671, section 13",
    Direction(),
    _digits_batch,
    equal="network, data, target, seeds; the learning rate of each searched at each batch size",
    same=(),
    test=MEASURES + "test_ten_steps_of_kfac_go_lower_than_ten_of_gradient_descent_on_the_small_network",
)
tridiagonal = Claim(
    "curvature",
    "tridiagonal",
    "Keeping the dependence between neighbouring layers in the inverse (block-tridiagonal) makes more progress in a "
    "step than the block diagonal",
    "1503.05671, sections 4.3 and 13",
    Direction(),
    missing="the block-tridiagonal inverse, which is not written",
)
autoencoders = Claim(
    "curvature",
    "autoencoders",
    "K-FAC with adaptive damping trains deep autoencoders faster than momentum SGD in time as well as in steps",
    "1503.05671, section 13",
    Direction(),
    missing="adaptive damping in the optimiser, the autoencoders, and a GPU",
)
kfc_networks = Claim(
    "curvature",
    "kfc_networks",
    "KFC trains convolutional networks on CIFAR-10 and SVHN several times faster than momentum SGD",
    "1602.01407, section 6",
    Threshold(above=1.0),
    missing="SVHN, which has no loader here, and a GPU",
)
