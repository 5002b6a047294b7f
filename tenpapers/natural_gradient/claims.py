"""What the paper says of the natural gradient, and what decides it here. Paper: arXiv 1905.10961.

The two-layer network and unit inputs are the paper's mathematical object; the sizes of its figures are not known here.
"""

import math
from itertools import pairwise

import torch

from nnlib import natural_gradient as ng
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, Unfair, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.natural_gradient import runs
from tenpapers.natural_gradient.workloads import Bent, pair, problem, sphere

TESTS = "tests/nnlib/natural_gradient/"
MEASURES = "tests/tenpapers/natural_gradient/test_measure.py::"
RATE, WIDE, LIMIT = "theorem on the rate", "two-layer ReLU networks", "limit of infinite width"
KFAC, GENERAL = "theorem on K-FAC", "generalisation"
BOTH = ("laptop", "paper")


def by_width(
    profile: str, column: str, method: str = "Natural gradient", lr: float = 0.3
) -> dict[str, dict[int, Sample]]:
    """A column of the runs over seeds, by data set and width."""
    frame = runs.widths.read(profile, method=method, lr=lr)
    return {
        str(data): {int(str(width)): sample_of(part, column) for width, part in of_data.groupby("width")}
        for data, of_data in frame.groupby("data", sort=False)
    }


def slowed(profile: str, method: str) -> dict[int, Sample]:
    """How many times as many steps two examples need to part if their angle is 0.1 in place of 1, by width."""
    frame = runs.conditioning.read(profile, gap=[1.0, 0.1])
    held_equal("steps", {str(name): part.steps.max() for name, part in frame.groupby("method")})
    found = {}
    for width, part in frame[frame.method == method].groupby("width"):
        wide, close = (sample_of(part[part.gap == gap], "pair").values for gap in (1.0, 0.1))
        # What is left after k steps of a rate r is r^k, and 1 / log r steps leave a given share.
        found[int(str(width))] = Sample(tuple(math.log(a) / math.log(b) for a, b in zip(wide, close, strict=True)))
    return found


def _off(values: Sample, ideal: float) -> Sample:
    return Sample(tuple(value - ideal for value in values.values), values.overlap)


def _widest(found: dict[str, dict[int, Sample]]) -> dict[str, Sample]:
    return {data: values[max(values)] for data, values in found.items()}


def _ends(found: dict[str, dict[int, Sample]]) -> dict[str, Sample]:
    return {
        f"{data}, m = {width}": values[width] for data, values in found.items() for width in (min(values), max(values))
    }


def _falls(found: dict[str, dict[int, Sample]]) -> dict[str, Sample]:
    """How much a number falls from each width to the next."""
    return {
        f"{data}, {narrow} to {wide}": values[narrow] - values[wide]
        for data, values in found.items()
        for narrow, wide in pairwise(values)
    }


def _theorem(profile: str) -> Evidence:
    eye, holds = torch.eye(5, dtype=torch.float64), {}
    for bend in (0.02, 0.05, 0.08):
        C = ng.stability_constant(2 * bend, (1 + bend) ** 2)
        lr = ng.largest_lr(C)
        for scale in (0.1, 3.0, 30.0):
            model, y = Bent(5, bend), scale * torch.tensor([[1.0], [-2.0], [3.0], [0.5], [-0.2]], dtype=torch.float64)
            within = True
            for k in range(1, 10):
                with torch.no_grad():
                    model.theta.sub_(lr * ng.natural_gradient(model, eye, model(eye) - y))
                    left = (model(eye) - y).square().sum()
                within &= bool(left <= (1 - lr) ** k * y.square().sum() + 1e-20)
            holds[f"C {C:.3f}, targets times {scale:g}"] = within
    return Evidence(holds)


theorem = Claim(
    "natural_gradient",
    "theorem",
    "Where both conditions hold, the squared residual falls by 1 − α a step or more, whatever the targets "
    "(checked at the largest α of the proof, on a model with C in closed form)",
    RATE,
    Exact(0.0),
    _theorem,
    same=BOTH,
    test=TESTS + "test_conditions.py::test_the_theorem_holds_where_condition_two_is_known_to_hold",
)


def _condition_1(profile: str) -> Evidence:
    found = by_width(profile, "drift")
    return Evidence(_ends(found), _widest(found))


condition_1 = Claim(
    "natural_gradient",
    "condition_1",
    "The smallest eigenvalue of the Gram matrix of a wide network is near its limit, and positive "
    "(|λ_min(G(0)) / λ₀ − 1|; widest network: within 10 %)",
    f"{WIDE}, condition 1",
    Equal(0.1),
    _condition_1,
    same=BOTH,
    test=TESTS + "test_two_layer.py::test_gram_matrix_deviates_from_its_limit_by_one_over_the_root_of_the_width",
)


def _condition_2(profile: str) -> Evidence:
    found = by_width(profile, "constant")
    return Evidence(_ends(found), _falls(found))


condition_2 = Claim(
    "natural_gradient",
    "condition_2",
    "Along the run the Jacobian is the more stable the wider the network "
    "(the C that its change asks for; the theorem wants C < 1/2, in a whole ball)",
    f"{WIDE}, condition 2",
    Direction(),
    _condition_2,
    same=(),  # a run is not the ball
    test=TESTS + "test_train.py::test_wider_networks_change_their_jacobian_and_their_weights_less",
)


def _linearised_rate(profile: str) -> Evidence:
    found = by_width(profile, "slowest")
    return Evidence(_ends(found), {data: _off(values, 0.7) for data, values in _widest(found).items()})


linearised_rate = Claim(
    "natural_gradient",
    "linearised_rate",
    "In the limit of infinite width |u − y| falls by 1 − α a step "
    "(slowest ratio of 12 steps, α = 0.3; widest network: within 1 % of 0.7)",
    LIMIT,
    Equal(0.007),
    _linearised_rate,
    same=BOTH,
    test=TESTS + "test_train.py::test_outputs_approach_those_of_the_infinite_network_as_one_over_the_root_of_the_width",
)


def _one_step(profile: str) -> Evidence:
    found = by_width(profile, "first", lr=1.0)
    return Evidence(_ends(found), _widest(found))


one_step = Claim(
    "natural_gradient",
    "one_step",
    "With α = 1 a wide network's outputs reach their targets in nearly one step "
    "(|u − y| after over before; widest network: less than a twentieth is left)",
    LIMIT,
    Threshold(below=0.05),
    _one_step,
    same=BOTH,
    test=TESTS + "test_train.py::test_one_step_with_lr_one_leaves_less_in_wider_networks",
)


def _movement(profile: str) -> Evidence:
    found = by_width(profile, "movement")
    return Evidence(_ends(found), _falls(found))


movement = Claim(
    "natural_gradient",
    "movement",
    "Weights move less in wider networks (|W − W(0)| / |W(0)| after 12 steps, α = 0.3)",
    WIDE,
    Direction(),
    _movement,
    same=BOTH,
    test=TESTS + "test_train.py::test_wider_networks_change_their_jacobian_and_their_weights_less",
)


def _rate(profile: str) -> Evidence:
    frame = runs.widths.read(profile, method="Natural gradient", lr=0.3)
    share = Sample(tuple(part.within.mean() for _, part in frame.groupby("seed")))  # of the runs of each seed
    return Evidence({"share of the runs": share}, {"share of the runs, less 1": _off(share, 1.0)})


rate = Claim(
    "natural_gradient",
    "rate",
    "The squared residual is within (1 − α)^k at every step, α = 0.3 (share of the runs)",
    f"{RATE}, {WIDE}",
    Equal(0.0),
    _rate,
    same=BOTH,
    test=MEASURES + "test_bound_is_judged_at_every_step",
)


def _detours(profile: str, method: str, lr: float) -> dict[str, Sample]:
    held_equal("steps", {str(name): part.steps.max() for name, part in runs.widths.read(profile).groupby("method")})
    return _widest(by_width(profile, "detour", method, lr))


def _straight(profile: str) -> Evidence:
    found = _detours(profile, "Natural gradient", 0.3)
    return Evidence(found, {data: _off(values, 1.0) for data, values in found.items()})


straight = Claim(
    "natural_gradient",
    "straight",
    "Outputs go straight to their targets by the natural gradient "
    "(path over distance, widest network: at most 1 % longer)",
    "experiments, figure on the outputs of two examples",
    Equal(0.01),
    _straight,
    same=(),
    test=TESTS + "test_train.py::test_natural_gradient_walks_straight_and_gradient_descent_makes_a_detour",
)


def _detour(profile: str) -> Evidence:
    plain, natural = _detours(profile, "GD", 1.0), _detours(profile, "Natural gradient", 0.3)
    shown = {f"GD, {data}": value for data, value in plain.items()}
    return Evidence(shown, {data: plain[data] - natural[data] for data in plain})


detour = Claim(
    "natural_gradient",
    "detour",
    "By gradient descent outputs make a detour to their targets (path over distance, widest network)",
    "experiments, figure on the outputs of two examples",
    Direction(),
    _detour,
    equal="network, seed, steps",
    same=(),
    test=TESTS + "test_train.py::test_natural_gradient_walks_straight_and_gradient_descent_makes_a_detour",
)


def _conditioning(profile: str) -> Evidence:
    found = {}
    for method in ("GD", "K-FAC", "Natural gradient"):
        widths = slowed(profile, method)
        found[method] = widths[max(widths)]
    return Evidence(found, {"GD over natural gradient": found["GD"] - found["Natural gradient"]})


conditioning = Claim(
    "natural_gradient",
    "conditioning",
    "Gradient descent's rate depends on the conditioning, the natural gradient's less "
    "(times as many steps that two close examples need to part, gap 0.1 over gap 1; widest network)",
    RATE,
    Direction(),
    _conditioning,
    equal="points, network, seed, steps",
    same=(),
    test=MEASURES + "test_conditioning_slows_gradient_descent_down_more_and_wide_networks_less",
)


def _conditioning_width(profile: str) -> Evidence:
    found = slowed(profile, "Natural gradient")
    return Evidence({f"m = {width}": value for width, value in found.items()}, _falls({"m": found}))


conditioning_width = Claim(
    "natural_gradient",
    "conditioning_width",
    "The natural gradient's rate depends the less on the conditioning the wider the network "
    "(the same number, which falls from width to width; 1 would be no dependence)",
    RATE,
    Direction(),
    _conditioning_width,
    equal="points, seed, steps",
    same=(),
    test=MEASURES + "test_conditioning_slows_gradient_descent_down_more_and_wide_networks_less",
)


def _kfac_operator(profile: str) -> Evidence:
    x = sphere(n=24, d=10).x
    off = ng.kfac_operator(x, ng.TwoLayer(10, 1024, dtype=torch.float64).features(x)) - torch.diag(
        ng.leverage_scores(x)
    )
    return Evidence({"largest deviation": off.abs().max().item()})


kfac_operator = Claim(
    "natural_gradient",
    "kfac_operator",
    "In function space K-FAC multiplies residuals by I − α diag(leverage scores) where the features have full row "
    "rank (largest deviation below 1e-10)",
    KFAC,
    Exact(1e-10),
    _kfac_operator,
    same=BOTH,
    test=TESTS + "test_kfac.py::test_operator_is_the_diagonal_of_leverage_scores_where_the_features_have_full_row_rank",
)


def _kfac_rates(profile: str) -> Evidence:
    return Evidence({"largest deviation": sample_of(runs.leverage.read(profile), "deviation")})


kfac_rates = Claim(
    "natural_gradient",
    "kfac_rates",
    "Each residual falls at its own rate 1 − αl "
    "(largest relative deviation of the rate over six steps, width 16384: at most 5 %)",
    KFAC,
    Equal(0.05),
    _kfac_rates,
    same=BOTH,
    test=TESTS + "test_kfac.py::test_each_residual_shrinks_at_its_own_rate_in_a_wide_network",
)


def _kfac_bound(profile: str) -> Evidence:
    frame = runs.widths.read(profile, method="K-FAC")
    slowest, shown, spare = _widest(by_width(profile, "slowest", "K-FAC", 1.0)), {}, {}
    for data, values in slowest.items():
        n = int(frame[frame.data == data].n.iloc[0])
        bounds = []
        for seed in range(values.n):
            x = problem(data, n, seed).x
            bounds.append(1 - 1 / float(torch.linalg.eigvalsh(x.T @ x)[-1]))
        shown |= {data: values, f"{data}, bound": Sample(tuple(bounds))}
        spare[data] = Sample(tuple(bounds)) - values
    return Evidence(shown, spare)


kfac_bound = Claim(
    "natural_gradient",
    "kfac_bound",
    "K-FAC's slowest step is no slower than 1 − α / λ_max(X'X), α = 1 "
    "(slowest ratio of |u − y|, widest network; and the bound)",
    KFAC,
    Direction(),
    _kfac_bound,
    same=BOTH,
    test=TESTS + "test_kfac.py::test_no_step_is_slower_than_the_papers_bound_in_a_wide_network",
)


def _other_losses(profile: str) -> Evidence:
    shown, spare = {}, {}
    for (mu, share), part in runs.losses.read(profile).groupby(["mu", "share"]):
        name = f"μ {mu:g}, α {share:g} of the largest"
        shown[name] = sample_of(part, "largest") - sample_of(part, "promised")
        spare[name] = sample_of(part, "promised") - sample_of(part, "largest")
    return Evidence(shown, spare)


other_losses = Claim(
    "natural_gradient",
    "other_losses",
    "With a strongly convex loss |u − u*|² falls by 1 − 2αμL/(μ+L) a step or more "
    "(measured minus promised, largest of three steps; logistic loss, width 4096)",
    "other losses",
    Direction(),
    _other_losses,
    same=(),  # a finite width, for a statement about the infinite one
    test=TESTS + "test_losses.py::test_a_wide_network_contracts_as_its_outputs_would",
)


def _bound(profile: str) -> Evidence:
    frame = runs.pairs.read(profile, first=0, second=1)
    n = int(frame.n.max())
    part = frame[frame.n == n]
    overlap = len(pair("mnist", 0, 1, n, vendored=True).y_test) / n  # drawn from the same images
    bound, error = (sample_of(part, column, overlap=overlap) for column in ("bound", "kernel_error"))
    spare = Sample(tuple(1 - value for value in bound.values), overlap)
    return Evidence({"bound": bound, "test error": error}, {"bound less error": bound - error, "1 less bound": spare})


generalisation_bound = Claim(
    "natural_gradient",
    "generalisation_bound",
    "A bound of the form sqrt(2 y'G⁻¹y/n) + O(sqrt(log(1/δ)/n)) on the test loss, the same as for gradient descent "
    "(ours with the constants of our proof, δ = 0.05; MNIST 0 against 1: it holds, and is below 1)",
    GENERAL,
    Direction(),
    _bound,
    same=(),
    test=TESTS + "test_generalisation.py::test_bound_says_something_for_an_easy_pair_of_digits_and_holds_there",
)


def _order(profile: str) -> Evidence:
    return Evidence({"rank correlation": sample_of(runs.order.read(profile), "rank")})


generalisation_order = Claim(
    "natural_gradient",
    "generalisation_order",
    "The quantity y'G⁻¹y/n orders tasks by how well they are learned "
    "(rank correlation with the test error over 45 pairs of MNIST digits, above one half)",
    GENERAL,
    Threshold(above=0.5),
    _order,
    same=(),
    test=MEASURES + "test_complexity_orders_pairs_of_digits_by_their_test_error",
)


def _noise(profile: str) -> Evidence:
    frame = runs.noise.read(profile)
    found = {
        f"{column}, share {share:g}": sample_of(part, column)
        for column in ("complexity", "network_error")
        for share, part in frame.groupby("share")
    }
    if frame.left.max() > 0.01:
        raise Unfair(f"not every network fitted its labels: {frame.left.max():.2g} is left", found)
    rises = {
        f"{column}, {low:g} to {high:g}": found[f"{column}, share {high:g}"] - found[f"{column}, share {low:g}"]
        for column in ("complexity", "network_error")
        for low, high in pairwise(sorted(frame.share.unique()))
    }
    return Evidence(found, rises)


generalisation_noise = Claim(
    "natural_gradient",
    "generalisation_noise",
    "Flipped labels raise the quantity and the test error of a network that fits them",
    GENERAL,
    Direction(),
    _noise,
    equal="images, network, seed, steps; all labels fitted",
    same=(),
    test=MEASURES + "test_flipped_labels_are_fitted_and_raise_the_complexity",
)


def _width(profile: str) -> Evidence:
    frame = runs.ball.read(profile)
    shown = {name: sample_of(frame, name) for name in ("sufficient", "necessary")}
    checked = {
        f"{name} over its formula, less 1": _off(sample_of(frame, name), 1.0) for name in ("certified", "broken")
    }
    return Evidence(shown | checked, checked)


width = Claim(
    "natural_gradient",
    "width",
    "Some width, polynomial in n and 1/λ₀, suffices for condition 2 in the whole ball (log10 of the width, by the "
    "large-width formulas of our certificate and of our counterexample, which hold within 10 % at a width of 2^18)",
    f"{WIDE}, theorem on the width",
    Equal(0.1),
    _width,
    same=(),  # the constants are those of our own certificate
    test=TESTS + "test_conditions.py::test_certified_radius_has_its_large_width_form",
)
