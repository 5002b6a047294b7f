"""What the paper says of functional variational BNNs, and what decides it here. Paper: arXiv 1903.05779.

The paper's figures are those of the tables in the first author's talk of 2019, slides 21 to 23.
"""

import math
from itertools import pairwise

import pandas as pd
import torch
from gpytorch.kernels import MaternKernel, RBFKernel

from nnlib import functional_bnn as fbnn
from nnlib.bayes import gaussian_kl
from nnlib.functional_bnn.gp import gram
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, sample
from tenpapers.functional_bnn import runs
from tenpapers.functional_bnn.workloads import SEARCHES, made

CHAPTER = "functional_bnn"
TESTS, LAB = "tests/nnlib/functional_bnn/", "tests/tenpapers/functional_bnn/"
SLIDES = "quoted by the first author's slides"
SPLITS = 1 / 9  # test over training examples of the standard splits
ALWAYS = ("laptop", "paper")
SAME_NETWORK = "network, its start, steps and samples a step"


def _away(values: Sample, reference: float) -> Sample:
    """How far a number is from a reference."""
    return Sample(tuple(value - reference for value in values.values), values.overlap)


def _each(frame: pd.DataFrame, by: str, column: str, unit: str = "seed") -> dict[str, Sample]:
    """A column's values for each value of another column, in the order of the rows."""
    overlap = SPLITS if unit == "split" else 0.0
    return {str(name): sample(part, column, unit, overlap) for name, part in frame.groupby(by, sort=False)}


# Mathematics


def _evidence_gap(profile: str) -> Evidence:
    draw = torch.Generator("cpu").manual_seed(0)
    kernel = made(MaternKernel).requires_grad_(False)
    x, y = torch.randn(2, 4, 1, generator=draw, dtype=torch.float64)
    z = torch.cat([x, torch.linspace(-3, 3, 5, dtype=torch.float64)[:, None]])
    noise_sd, zero = 0.5, torch.zeros_like(z[:, 0])
    mean, covariance = torch.linspace(-1, 1, len(z), dtype=torch.float64), 0.16 * torch.eye(len(z)).double()
    misfit = (y[:, 0] - mean[:4]).square() + covariance.diagonal()[:4]
    expected = -0.5 * (misfit / noise_sd**2 + math.log(2 * math.pi * noise_sd**2)).sum()
    bound = expected - gaussian_kl(mean, covariance, zero, gram(kernel, z))
    gap = gaussian_kl(mean, covariance, *fbnn.posterior(kernel, x, y[:, 0], z, noise_sd))
    return Evidence({"gap, less the KL": (fbnn.log_evidence(kernel, x, y[:, 0], noise_sd) - bound - gap).item()})


evidence_gap = Claim(
    CHAPTER,
    "evidence_gap",
    "For a measurement set that holds all training inputs, the functional ELBO is below the log evidence by exactly "
    "the KL to the posterior",
    "section 3.2",
    Exact(1e-4),
    _evidence_gap,
    same=ALWAYS,
    test=TESTS + "test_process_kl.py::test_gap_to_the_log_evidence_is_the_kl_to_the_posterior",
)


def _process_kl(profile: str) -> Evidence:
    draw = torch.Generator("cpu").manual_seed(0)
    x = 4 * torch.rand(12, 1, generator=draw, dtype=torch.float64)
    rough = made(MaternKernel, lengthscale=0.6).requires_grad_(False)
    smooth = made(RBFKernel, lengthscale=1.0).requires_grad_(False)
    values = [fbnn.process_kl(rough, smooth, x[:n], 1e-3).item() for n in range(1, 13)]
    phi, root = torch.randn(2, 6, 6, generator=draw, dtype=torch.float64)
    mean, covariance, prior = phi[0], root @ root.mT + torch.eye(6), torch.eye(6).double()
    weights = gaussian_kl(mean, covariance, torch.zeros_like(mean), prior)
    function = fbnn.feature_kl(phi, mean, covariance, prior, 0.0)
    never_falls = all(after >= before - 1e-9 for before, after in pairwise(values))
    return Evidence({"never falls": never_falls, "features over weights, less 1": (function / weights - 1).item()})


process_kl = Claim(
    CHAPTER,
    "process_kl",
    "The KL on a finite set never falls when points are added, and equals the KL between weights where features "
    "determine the weights",
    "section 2.2, theorem 1",
    Exact(1e-8),
    _process_kl,
    same=ALWAYS,
    test=TESTS + "test_process_kl.py::test_kl_never_falls_when_a_point_is_added",
)


def _infinite_kl(profile: str) -> Evidence:
    x = torch.linspace(0, 3, 8, dtype=torch.float64)[:, None]
    phi, prior = torch.cat([torch.ones_like(x), x, x**2], 1), gram(made(MaternKernel), x).detach()
    zero, eye = torch.zeros_like(x[:, 0]), torch.eye(8).double()
    noises = (1e-2, 1e-3, 1e-4)
    kls = [gaussian_kl(zero, phi @ phi.mT + g**2 * eye, zero, prior + g**2 * eye).item() for g in noises]
    growth = [(after - before) / ((8 - 3) * math.log(10)) for before, after in pairwise(kls)]
    return Evidence({f"down to γ = {g:g}, less 1": value - 1 for g, value in zip(noises[1:], growth, strict=True)})


infinite_kl = Claim(
    CHAPTER,
    "infinite_kl",
    "The KL of a process of few features to a Gaussian process grows without bound as the injected noise vanishes "
    "(by (n − k) log 10 for each factor of ten, at n points with k features)",
    "criticism of Burt et al. 2020",
    Exact(1e-3),
    _infinite_kl,
    same=ALWAYS,
    test=TESTS + "test_process_kl.py::"
    "test_kl_of_a_process_of_few_features_grows_without_bound_as_the_injected_noise_vanishes",
)


# The estimator, and inference where it can be exact


def _errors(profile: str) -> dict[int, Sample]:
    frame = runs.scores.read(profile)
    return {n: sample(frame[frame.samples == n], "error") for n in sorted(frame.samples.unique())}


stein = Claim(
    CHAPTER,
    "stein",
    "The spectral Stein estimator finds scores from samples "
    "(error over the size of the score of a standard normal on (−2, 2), 400 samples)",
    "section 3.1",
    Threshold(below=0.5),
    lambda profile: Evidence({"400 samples": _errors(profile)[400]}),
    same=ALWAYS,
    test=TESTS + "test_score.py::test_estimate_is_that_of_the_definition_at_new_points",
)


def _falling(profile: str) -> Evidence:
    errors = _errors(profile)
    gains = {f"from {few} to {many}": errors[few] - errors[many] for few, many in pairwise(errors)}
    return Evidence({f"{n} samples": error for n, error in errors.items()}, gains)


stein_falls = Claim(
    CHAPTER,
    "stein_falls",
    "The error of the spectral Stein estimator falls with the number of samples "
    "(over the size of the score of a standard normal on (−2, 2))",
    "section 3.1",
    Direction(),
    _falling,
    equal="eigenfunctions (6)",
    same=ALWAYS,
    test=TESTS + "test_score.py::test_error_on_a_standard_normal_falls_with_the_number_of_samples",
)
gp_posterior = Claim(
    CHAPTER,
    "gp_posterior",
    "With a flexible q, functional VI finds the mean of the posterior of the Gaussian process "
    "(largest distance at eight points, in standard deviations of the prior)",
    "section 5.1",
    Threshold(below=0.03),
    lambda profile: Evidence({"largest distance": sample(runs.posteriors.read(profile), "mean error")}),
    test=LAB + "test_measure.py::test_a_free_gaussian_finds_the_posterior_of_the_gaussian_process",
)
gp_posterior_band = Claim(
    CHAPTER,
    "gp_posterior_band",
    "With a flexible q, functional VI finds the standard deviations of the posterior of the Gaussian process, up to a "
    "fifth too small (smallest ratio at eight points)",
    "section 5.1",
    Threshold(above=0.8),
    lambda profile: Evidence({"smallest ratio": sample(runs.posteriors.read(profile), "smallest sd")}),
    test=LAB + "test_measure.py::test_a_free_gaussian_finds_the_posterior_of_the_gaussian_process",
)


# Toy problems. Neither profile has the paper's network, which is far larger and sees no random sines.


def _outside(profile: str, method: str) -> Evidence:
    frame = runs.toys.read(profile, toy="sine", kernel="periodic + RBF", method=method)
    return Evidence({method: sample(frame, "outside")})


extrapolation = Claim(
    CHAPTER,
    "extrapolation",
    "With a periodic prior the network extrapolates a sine "
    "(error away from the data, in standard deviations of y; zero everywhere scores about 1)",
    "section 5.1.1",
    Threshold(below=0.2),
    lambda profile: _outside(profile, "fBNN"),
    same=(),
    test=LAB + "test_measure.py::test_periodic_prior_extrapolates_and_a_prior_on_weights_does_not",
)
weights_do_not_extrapolate = Claim(
    CHAPTER,
    "weights_do_not_extrapolate",
    "With a prior on weights the network does not extrapolate a sine "
    "(error away from the data, in standard deviations of y; zero everywhere scores about 1)",
    "section 5.1.1",
    Threshold(above=0.5),
    lambda profile: _outside(profile, "weight-space VI"),
    same=(),
    test=LAB + "test_measure.py::test_periodic_prior_extrapolates_and_a_prior_on_weights_does_not",
)


def _beside_the_process(profile: str, column: str) -> dict[str, Sample]:
    frame = runs.toys.read(profile, method="fBNN")
    return _each(frame.assign(problem=frame.toy + ", " + frame.kernel), "problem", column)


def _band(profile: str) -> Evidence:
    ratios = _beside_the_process(profile, "sd ratio")
    return Evidence(ratios, {name: _away(ratio, 1.0) for name, ratio in ratios.items()})


close_to_gp = Claim(
    CHAPTER,
    "close_to_gp",
    "The mean of the fBNN is that of the exact Gaussian process with the same prior "
    "(root mean squared distance, in standard deviations of y)",
    "section 5.1.1",
    Equal(0.15),
    lambda profile: Evidence(_beside_the_process(profile, "to gp")),
    same=(),
    test=LAB + "test_measure.py::test_a_run_on_a_toy_is_measured_against_the_exact_process",
)
close_to_gp_band = Claim(
    CHAPTER,
    "close_to_gp_band",
    "The band of the fBNN is that of the exact Gaussian process with the same prior "
    "(standard deviation away from the data over the exact one)",
    "section 5.1.1",
    Equal(0.2),
    _band,
    same=(),
    test=LAB + "test_measure.py::test_a_run_on_a_toy_is_measured_against_the_exact_process",
)


def _measurement_sets(profile: str) -> Evidence:
    frame = runs.strategies.read(profile)
    frame = frame.assign(points=frame.strategy + ", " + frame.n_random.astype(str))
    values = _each(frame, "points", "outside")
    alone = values["training, 1"]
    return Evidence(values, {f"over {points}": alone - value for points, value in values.items() if value != alone})


measurement_sets = Claim(
    CHAPTER,
    "measurement_sets",
    "Random measurement points are what carries the prior to where there are no data "
    "(error away from the data, by strategy and number of random points; training inputs alone beside each other set)",
    "section 3.2",
    Direction(),
    _measurement_sets,
    equal=SAME_NETWORK,
    same=(),
    test=LAB + "test_measure.py::test_without_random_points_the_prior_does_not_reach_beyond_the_data",
)


def _implicit(profile: str) -> Evidence:
    frame = runs.piecewise.read(profile)
    flat, prior_flat = (_each(frame, "prior", column) for column in ("flat", "prior flat"))
    shown = flat | {"the first prior itself": prior_flat["piecewise constant"]}
    sampled = ("piecewise constant", "piecewise linear")
    return Evidence(shown, {f"{prior} over the twin": flat[prior] - flat["Gaussian twin"] for prior in sampled})


implicit_priors = Claim(
    CHAPTER,
    "implicit_priors",
    "Priors that can only be sampled shape the posterior (share of small steps in the gap along which its functions "
    "are flat, beside that under a Gaussian process with the same mean and covariance as the first)",
    "section 5.1.2",
    Direction(),
    _implicit,
    equal=SAME_NETWORK,
    same=(),
    test=TESTS + "test_objective.py::test_score_of_a_sampled_prior_leads_the_same_way_as_its_density",
)


# Series


def _series(profile: str, name: str) -> Evidence:
    frame = runs.series.read(profile, name=name)
    error = _each(frame, "method", "rmse")
    ahead = {
        # The prior carries the network only where the exact process, which has nothing but that prior, gets there too.
        f"{method} over weight-space VI": error["weight-space VI"] - error[method]
        for method in ("fBNN", "exact GP")
    }
    return Evidence(error, ahead)


def _series_claim(id: str, name: str, told: str) -> Claim:
    return Claim(
        CHAPTER,
        id,
        "A structured prior carries the network into the future of a series, a prior on weights does not "
        f"({told}: root mean squared error)",
        "section 5.1",
        Direction(),
        lambda profile: _series(profile, name),
        equal=SAME_NETWORK + ", noise",
        same=(),
        test=LAB + "test_measure.py::test_forecasts_are_of_the_last_years_and_in_their_units",
    )


series_airline = _series_claim("series_airline", "airline", "airline passengers")
series_co2 = _series_claim("series_co2", "co2", "CO₂")


# Tables


def _on_table(profile: str, name: str) -> Evidence:
    frame = runs.small.read(profile, name=name)
    scale = frame.kl_scale.map({"batch": "", "data": ", KL by data"})
    values = _each(frame.assign(inference=frame.method + scale), "inference", "rmse", "split")
    return Evidence(values, {"fBNN over weight-space VI": values["weight-space VI"] - values["fBNN"]})


yacht = Claim(
    CHAPTER,
    "yacht",
    "On Yacht the fBNN predicts better than weight-space VI (root mean squared error)",
    "section 5.2.1",
    Direction(),
    lambda profile: _on_table(profile, "yacht"),
    paper={"fBNN": 0.607, "weight-space VI": 1.174},
    certainty=SLIDES,
    equal=SAME_NETWORK + ", model of the noise",
    test=LAB + "test_measure.py::test_small_tables_have_the_floor_of_the_noise_and_one_box_for_all_features",
)
diabetes = Claim(
    CHAPTER,
    "diabetes",
    "On diabetes (not in the paper) the fBNN with the published scale predicts better than weight-space VI "
    "(root mean squared error)",
    "section 5.2.1",
    Direction(),
    lambda profile: _on_table(profile, "diabetes"),
    equal=SAME_NETWORK + ", model of the noise",
    same=(),
    test=LAB + "test_measure.py::test_small_tables_have_the_floor_of_the_noise_and_one_box_for_all_features",
)


def _large(profile: str, column: str, sign: int) -> Evidence:
    values = _each(runs.large.read(profile), "method", column, "split")
    ahead = values["fBNN"] - values["weight-space VI"] if sign > 0 else values["weight-space VI"] - values["fBNN"]
    return Evidence(values, {"fBNN over weight-space VI": ahead})


AS_GOOD = "On a large table (Protein) the fBNN with a neural-kernel prior predicts at least as well as weight-space VI"
# At least as well: not behind by more than the paper's own standard errors of weight-space VI, 0.033 and 0.007.
large_data = Claim(
    CHAPTER,
    "large_data",
    f"{AS_GOOD} (root mean squared error; to the paper's standard error)",
    "section 5.2.2",
    Threshold(above=-0.033),
    lambda profile: _large(profile, "rmse", -1),
    paper={"fBNN": 4.326, "weight-space VI": 4.331},
    certainty=SLIDES,
    equal=SAME_NETWORK + ", model of the noise",
    same=(),
    test=LAB + "test_measure.py::test_large_tables_are_compared_in_a_box_twice_as_wide_as_the_data",
)
large_data_likelihood = Claim(
    CHAPTER,
    "large_data_likelihood",
    f"{AS_GOOD} (log likelihood; to the paper's standard error)",
    "section 5.2.2",
    Threshold(above=-0.007),
    lambda profile: _large(profile, "log_likelihood", 1),
    paper={"fBNN": -2.892, "weight-space VI": -2.892},
    certainty=SLIDES,
    equal=SAME_NETWORK + ", model of the noise",
    same=(),
    test=LAB + "test_measure.py::test_large_tables_are_compared_in_a_box_twice_as_wide_as_the_data",
)


def _coverage(profile: str) -> Evidence:
    series = runs.series.read(profile, method="fBNN")
    small = runs.small.read(profile, method="fBNN", kl_scale="batch")
    large = runs.large.read(profile, method="fBNN").assign(name="protein")
    covered = _each(series, "name", "coverage")
    covered |= _each(small, "name", "coverage", "split") | _each(large, "name", "coverage", "split")
    return Evidence(covered, {name: _away(value, 0.9) for name, value in covered.items()})


reliable_uncertainty = Claim(
    CHAPTER,
    "reliable_uncertainty",
    "The fBNN says reliably how sure it is (share of test points in its 90 % interval)",
    "abstract",
    Equal(0.1),
    _coverage,
    same=(),
    test=LAB + "test_measure.py::test_intervals_of_the_exact_process_hold_the_share_they_should",
)


# Acting


def _bandits(profile: str) -> Evidence:
    frame = runs.bandits.read(profile)
    shown: dict[str, Sample] = {}
    ahead: dict[str, Sample] = {}
    for problem, part in frame.groupby("problem", sort=False):
        regret = part.pivot(index="seed", columns="agent", values="regret")
        shares = 100 * regret.div(regret["uniform"], axis=0).drop(columns="uniform")
        share = {agent: Sample(tuple(shares[agent])) for agent in shares}
        others = {str(agent): value for agent, value in share.items() if agent != "fBNN"}
        best = min(others, key=lambda agent: others[agent].mean)
        shown |= {f"{problem}, fBNN": share["fBNN"], f"{problem}, best other ({best})": others[best]}
        ahead |= {f"{problem}, {agent}": value - share["fBNN"] for agent, value in others.items()}
    return Evidence(shown, ahead)


bandits = Claim(
    CHAPTER,
    "bandits",
    "By Thompson sampling the fBNN has the least regret "
    "(percent of that of random actions; the paper's figures are means of eight problems)",
    "section 5.3",
    Direction(),
    _bandits,
    paper={"fBNN": 47.0, "dropout": 48.3, "neural linear": 52.3, "Bayes by backprop": 56.6},
    certainty=SLIDES,
    equal="rounds, updates, steps an update, size of the networks",
    same=(),
    test=LAB + "test_agents.py::test_every_agent_loses_far_less_than_random_actions",
)


def _regrets(profile: str) -> dict[str, Sample]:
    frame = runs.searches.read(profile)
    frame = frame.assign(function=frame.kernel + frame.d.astype(str) + frame.seed.astype(str))
    values = _each(frame, "method", f"after {runs.QUERIES}", "function")
    return {method: values[method] for method in SEARCHES}


def _ahead_in_search(profile: str) -> Evidence:
    regret = _regrets(profile)
    others = ("random search", "Bayes by backprop")
    return Evidence(regret, {f"over {method}": regret[method] - regret["fBNN"] for method in others})


def _close_in_search(profile: str) -> Evidence:
    regret = _regrets(profile)
    chance, exact, ours = (regret[method].values for method in ("random search", "exact GP", "fBNN"))
    away = tuple(0.25 * c + 0.75 * e - o for c, e, o in zip(chance, exact, ours, strict=True))
    return Evidence(regret, {"beyond three quarters of the way": Sample(away)})


FUNCTIONS = "In Bayesian optimisation of functions from known priors the fBNN is"
bayesian_optimisation = Claim(
    CHAPTER,
    "bayesian_optimisation",
    f"{FUNCTIONS} ahead of Bayes by backprop and of chance (regret after 10 queries, 90 functions)",
    "section 5.4",
    Direction(),
    _ahead_in_search,
    equal="queries, candidates, first queries; of the networks size, start and steps",
    same=(),
    test=LAB + "test_measure.py::test_search_finds_the_top_of_a_hill",
)
bayesian_optimisation_close = Claim(
    CHAPTER,
    "bayesian_optimisation_close",
    f"{FUNCTIONS} close to the exact process (regret after 10 queries, 90 functions; close: at least three quarters of "
    "the way from chance)",
    "section 5.4",
    Direction(),
    _close_in_search,
    equal="queries, candidates, first queries",
    same=(),
    test=LAB + "test_measure.py::test_search_finds_the_top_of_a_hill",
)
