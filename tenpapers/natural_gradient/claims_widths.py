"""What do the theorem and its two conditions say of wide two-layer networks, and what do the runs?

Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

from itertools import pairwise

import torch

from nnlib import natural_gradient as ng
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.natural_gradient import runs
from tenpapers.natural_gradient.workloads import Bent

TESTS = "tests/nnlib/natural_gradient/"
MEASURES = "tests/tenpapers/natural_gradient/test_measure.py::"
RATE, WIDE, LIMIT = "theorem on the rate", "two-layer ReLU networks", "limit of infinite width"
BOTH = ("laptop", "paper")
NOTE = "quoted by a research note"  # of the theorems' statements


def by_width(
    profile: str, column: str, method: str = "Natural gradient", lr: float = 0.3
) -> dict[str, dict[int, Sample]]:
    """A column of the runs over seeds, by data set and width."""
    frame = runs.widths.read(profile, method=method, lr=lr)
    return {
        str(data): {int(str(width)): sample_of(part, column) for width, part in of_data.groupby("width")}
        for data, of_data in frame.groupby("data", sort=False)
    }


def off(values: Sample, ideal: float) -> Sample:
    return Sample(tuple(value - ideal for value in values.values), values.overlap)


def widest(found: dict[str, dict[int, Sample]]) -> dict[str, Sample]:
    return {data: values[max(values)] for data, values in found.items()}


def ends(found: dict[str, dict[int, Sample]]) -> dict[str, Sample]:
    return {
        f"{data}, m = {width}": values[width] for data, values in found.items() for width in (min(values), max(values))
    }


def falls(found: dict[str, dict[int, Sample]]) -> dict[str, Sample]:
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
    paper={"": "|u(k) − y|² ≤ (1 − α)^k |u(0) − y|² for α ≤ (1 − 2C) / (1 + C)², C < ½"},
    certainty=NOTE,
    test=TESTS + "test_conditions.py::test_the_theorem_holds_where_condition_two_is_known_to_hold",
)


def _condition_1(profile: str) -> Evidence:
    found = by_width(profile, "drift")
    return Evidence(ends(found), widest(found))


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
    return Evidence(ends(found), falls(found))


condition_2 = Claim(
    "natural_gradient",
    "condition_2",
    "Along the run the Jacobian is the more stable the wider the network "
    "(the C that its change asks for; the theorem wants C < 1/2, in a whole ball)",
    f"{WIDE}, condition 2",
    Direction(),
    _condition_2,
    same=(),  # a run is not the ball
    paper={"": "C < ½ in the ball of radius 3 |y − u(0)| / √λ_min(G(0))"},
    certainty=NOTE,
    test=TESTS + "test_train.py::test_wider_networks_change_their_jacobian_and_their_weights_less",
)


def _linearised_rate(profile: str) -> Evidence:
    found = by_width(profile, "slowest")
    return Evidence(ends(found), {data: off(values, 0.7) for data, values in widest(found).items()})


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
    return Evidence(ends(found), widest(found))


one_step = Claim(
    "natural_gradient",
    "one_step",
    "With α = 1 a wide network's outputs reach their targets in nearly one step "
    "(|u − y| after over before; widest network: less than a twentieth is left)",
    LIMIT,
    Threshold(below=0.05),
    _one_step,
    same=BOTH,
    paper={"": "one step in the limit of infinite width"},
    certainty="printed",
    test=TESTS + "test_train.py::test_one_step_with_lr_one_leaves_less_in_wider_networks",
)


def _movement(profile: str) -> Evidence:
    found = by_width(profile, "movement")
    return Evidence(ends(found), falls(found))


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
    return Evidence({"share of the runs": share}, {"share of the runs, less 1": off(share, 1.0)})


rate = Claim(
    "natural_gradient",
    "rate",
    "The squared residual is within (1 − α)^k at every step, α = 0.3 (share of the runs)",
    f"{RATE}, {WIDE}",
    Equal(0.0),
    _rate,
    same=BOTH,
    paper={"": "(1 − α)^k"},
    certainty=NOTE,
    test=MEASURES + "test_bound_is_judged_at_every_step",
)


def _detours(profile: str, method: str, lr: float) -> dict[str, Sample]:
    held_equal("steps", {str(name): part.steps.max() for name, part in runs.widths.read(profile).groupby("method")})
    return widest(by_width(profile, "detour", method, lr))


def _straight(profile: str) -> Evidence:
    found = _detours(profile, "Natural gradient", 0.3)
    return Evidence(found, {data: off(values, 1.0) for data, values in found.items()})


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
