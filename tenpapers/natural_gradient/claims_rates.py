"""On what do the rates depend: conditioning, K-FAC's leverage scores, the loss?

Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

import math

import torch

from nnlib import natural_gradient as ng
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.natural_gradient import runs
from tenpapers.natural_gradient.claims_widths import BOTH, MEASURES, NOTE, RATE, TESTS, by_width, falls, widest
from tenpapers.natural_gradient.workloads import problem, sphere

KFAC = "theorem on K-FAC"


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
    paper={"": "ahead of gradient descent by the order of λ_min(G∞)"},
    certainty="printed",
    test=MEASURES + "test_conditioning_slows_gradient_descent_down_more_and_wide_networks_less",
)


def _conditioning_width(profile: str) -> Evidence:
    found = slowed(profile, "Natural gradient")
    return Evidence({f"m = {width}": value for width, value in found.items()}, falls({"m": found}))


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
    slowest, shown, spare = widest(by_width(profile, "slowest", "K-FAC", 1.0)), {}, {}
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
    paper={"": "(1 − α / λ_max(X'X))^k"},
    certainty=NOTE,
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
