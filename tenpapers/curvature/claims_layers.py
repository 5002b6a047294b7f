"""Which direction do approximate blocks give, of dense layers and convolutions, and how are they damped?

Claims of arXiv 1503.05671, 1602.01407 and 1806.03884. Chapter: ``book/curvature.ipynb``.
"""

import torch
from torch import nn

from nnlib.curvature import Kronecker
from tenpapers.claims import Claim, Direction, Evidence, Exact, Sample
from tenpapers.claims import sample as sample_of
from tenpapers.curvature import runs
from tenpapers.curvature.claims_kfac import block_errors
from tenpapers.curvature.measure import relative_error
from tenpapers.curvature.workloads import drawn, random_layer

MEASURES = "tests/tenpapers/curvature/test_measure.py::"
BOTH = ("laptop", "paper")


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
    found, x = {}, drawn(1, 2, 3, 3)
    for locations, size in (("one", 3), ("four", 2)):
        conv = nn.Conv2d(2, 4, size, dtype=torch.float64)
        head = random_layer(4 * (4 - size) ** 2, 3, 3)
        with torch.no_grad():
            conv.weight.copy_(drawn(4, 2, size, size, seed=1))
            conv.bias.copy_(drawn(4, seed=2)) if conv.bias is not None else None
        found[locations] = block_errors(nn.Sequential(conv, nn.Flatten(), head), x, "categorical")["layer 0"]
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
    a, s, damping = drawn(8, 6), drawn(9, 4, seed=1), 0.1
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
