"""What the paper says of weight decay, and what decides it here. Paper: arXiv 1810.12281."""

import math
from collections.abc import Callable
from statistics import fmean

import pandas as pd

from tenpapers.claims import (
    Claim,
    Direction,
    Equal,
    Evidence,
    Exact,
    Figure,
    Sample,
    Threshold,
    Unfair,
    held_equal,
    learned,
    sample,
)
from tenpapers.runs import NotRun
from tenpapers.weight_decay import identities, runs

TESTS = "tests/nnlib/weight_decay/"
NORMS = "tests/nnlib/curvature/test_norms.py::test_"
ROOM = "tests/tenpapers/weight_decay/"
BOTH = ("laptop", "paper")
KIND = {"SGD": "l2"}  # the kind of decay that the paper gives a method; decoupled to all others
FIRST, SECOND = ("SGD", "Adam"), ("K-FAC-G", "K-FAC-F")
MAIN = {"laptop": ["fashion_mnist"], "paper": ["cifar10, VGG16", "cifar10, ResNet32"]}  # without augmentation
PLAIN, BN = False, True


def _mean(*samples: Sample) -> Sample:
    """Seed by seed."""
    return Sample(tuple(map(fmean, zip(*(s.values for s in samples), strict=True))))


def _each(function: Callable[..., float], *samples: Sample) -> Sample:
    """A function of several numbers, seed by seed."""
    return Sample(tuple(map(function, *(s.values for s in samples))))


def _exact(
    id: str, statement: str, where: str, evidence: Callable[[], dict[str, float] | dict[str, bool]], test: str
) -> Claim:
    return Claim(
        "weight_decay", id, statement, where, Exact(1e-8), lambda _: Evidence(evidence()), same=BOTH, test=test
    )


curvature_norm = _exact(
    "curvature_norm",
    "Decoupled decay is a preconditioned step on the loss plus the squared curvature norm of the weights, with the "
    "curvature held constant",
    "section 2",
    lambda: {method: identities.curvature_norm(method) for method in SECOND},
    TESTS + "test_optimizers.py::test_decoupled_decay_of_kfac_is_a_preconditioned_penalty_in_the_curvature_norm",
)


# Mechanism 1


def _invariance() -> dict[str, float]:
    often = {"damping": 1e-3, "update_factors_every": 1, "update_inverses_every": 1}
    return {
        "SGD": identities.matched_runs("SGD", momentum=0.0),
        "momentum": identities.matched_runs("SGD", momentum=0.9),
        "Adam": identities.matched_runs("Adam", eps=1e-300),
        "K-FAC-G": identities.matched_runs("K-FAC-G", **often),
        "K-FAC-F": identities.matched_runs("K-FAC-F", seed=0, **often),
    }


invariance = _exact(
    "invariance",
    "Training from c θ with learning rate c² η (SGD, momentum), c η (Adam), η (K-FAC, damping over c²) visits the same "
    "functions",
    "section 4.1",
    _invariance,
    TESTS + "test_invariance.py::test_a_rescaled_start_with_the_matched_learning_rate_visits_the_same_functions",
)
growth = _exact(
    "growth",
    "Without decay, a step of SGD adds exactly η²|∇L|² to the squared length of weights under BatchNorm",
    "section 4.1",
    lambda: {"|W'|²": identities.growth()},
    TESTS + "test_invariance.py::test_squared_length_grows_by_the_square_of_each_step",
)


def _equilibrium(profile: str) -> Evidence:
    found = sample(runs.drawn.read(profile), "rest")
    return Evidence({"": found}, {"ratio less 1": _each(lambda ratio: ratio - 1, found)})


equilibrium = Claim(
    "weight_decay",
    "equilibrium",
    "With decay the length settles where |θ|⁴ = η|∇L|²/(2ω) (length on the sphere, measured over predicted)",
    "section 4.1",
    Equal(0.01),
    _equilibrium,
    same=BOTH,
    test=ROOM + "test_sphere.py::test_length_settles_where_growth_and_decay_cancel",
)


def _effective_rates(profile: str) -> Evidence:
    frame = runs.transfer.read(profile, run=["none", "decay"], epoch=[0, 8])
    frame = frame.assign(rate=frame.learning_rate / frame["norm"] ** 2)
    rates = frame.pivot(index="seed", columns=["run", "epoch"], values="rate")
    falls = {run: Sample(tuple(rates[run, 0] / rates[run, 8])) for run in ("none", "decay")}
    tested = {
        "without decay: log of the fall": _each(math.log, falls["none"]),
        "with decay: log of the rise": _each(lambda fall: -math.log(fall), falls["decay"]),
    }
    return Evidence({"without decay": falls["none"], "with decay": falls["decay"]}, tested)


effective_rate_falls = Claim(
    "weight_decay",
    "effective_rate_falls",
    "Without decay the effective learning rate η/|W|² falls during training although η is constant; with decay it does "
    "not (start over epoch 8)",
    "section 4.1",
    Direction(),
    _effective_rates,
    paper={"without decay, first 50 epochs": 10},
    certainty="printed",
    test=ROOM + "test_follow.py::test_the_effective_learning_rate_falls_without_decay_only",
)


def _transfer(profile: str) -> dict[str, Sample]:
    """Test accuracies of the four runs, in points; the run without decay must have learned something."""
    frame = runs.transfer.read(profile)
    held_equal("epochs", {str(run): part.epoch.max() for run, part in frame.groupby("run")})
    ends = frame[frame.test_accuracy.notna()]
    ends = ends.assign(points=100 * ends.test_accuracy)
    found = {str(run): sample(part, "points") for run, part in ends.groupby("run")}
    learned("the run without decay", found["none"].mean / 100, chance=0.1, ours=found)
    return found


GIVEN_TEST = (
    ROOM + "test_follow.py::test_norm_transfer_gives_the_layers_their_lengths_and_leaves_the_direction_to_training"
)


def _norms_given(profile: str) -> Evidence:
    found = _transfer(profile)
    gains = {"decay": found["decay"] - found["none"], "norms": found["norms given"] - found["none"]}
    tested = {
        "gain of decay": gains["decay"],
        "gain of the norms less four fifths of it": _each(lambda a, b: b - 0.8 * a, gains["decay"], gains["norms"]),
    }
    return Evidence(gains, tested)


norm_transfer = Claim(
    "weight_decay",
    "norm_transfer",
    "A run without decay that is given the norms of a run with decay recovers almost all of its gain in test accuracy "
    "(gains in points; almost all: four fifths)",
    "section 4.1",
    Direction(),
    _norms_given,
    equal="start, images and their order, epochs, learning rates",
    test=ROOM
    + "test_follow.py::test_norm_transfer_gives_the_layers_their_lengths_and_leaves_the_direction_to_training",
)


def _norms_and_last(profile: str) -> Evidence:
    found = _transfer(profile)
    shown = {"decay": found["decay"], "norms, decay on last": found["norms given, decay on last"]}
    return Evidence(shown, {"difference": shown["norms, decay on last"] - shown["decay"]})


norm_transfer_and_last = Claim(
    "weight_decay",
    "norm_transfer_and_last",
    "With decay on the last layer as well, a run that is given the norms of a run with decay reaches its test accuracy "
    "(in %; equal: within a point)",
    "section 4.1",
    Equal(1.0),
    _norms_and_last,
    equal="start, images and their order, epochs, learning rates",
    test=ROOM
    + "test_follow.py::test_norm_transfer_gives_the_layers_their_lengths_and_leaves_the_direction_to_training",
)


# Mechanism 2


lemmas = _exact(
    "lemmas",
    "For ReLU networks without biases J_θ θ = D f and θᵀGθ = D² E|f|², or D E|f|² with the diagonal blocks alone",
    "section 4.2, lemmas 1 and 2",
    identities.lemmas,
    NORMS + "jacobian_times_parameters_is_the_number_of_weight_matrices_times_the_output",
)
theorem_1 = _exact(
    "theorem_1",
    "For deep linear networks on whitened inputs θᵀGθ = D² |J|² and the K-FAC norm is D |J|²",
    "section 4.2, theorem 1",
    identities.theorem_1,
    NORMS + "norms_of_deep_linear_nets_on_whitened_inputs_are_the_jacobian_norm",
)


RELU_TEST = (
    ROOM + "test_jacobian.py::test_kfac_norm_of_a_relu_net_is_near_the_number_of_weight_matrices_times_the_output_"
    "and_not_equal"
)


def _kfac_norm_relu(profile: str) -> Evidence:
    found = sample(runs.drawn.read(profile), "relu")
    return Evidence({"": found}, {"share of D, less 1": _each(lambda ratio: ratio / 4 - 1, found)})


kfac_norm_relu = Claim(
    "weight_decay",
    "kfac_norm_relu",
    "With ReLU the K-FAC norm is approximately D E|f|² (K-FAC norm over E|f|² with D = 4; approximately: the mean over "
    "networks within a quarter)",
    "section 4.2",
    Equal(0.25),
    _kfac_norm_relu,
    same=BOTH,
    test=RELU_TEST,
)
kfac_norm_relu_only = _exact(
    "kfac_norm_relu_only",
    "With ReLU the K-FAC norm is only approximately D E|f|²: there are networks for which it is not equal",
    "section 4.2",
    lambda: {"off by more than 1 %": identities.relu_gap() > 0.01},
    RELU_TEST,
)
constant_curvature = _exact(
    "constant_curvature",
    "Differentiating through the curvature gives D times the gradient with the curvature held constant",
    "appendix",
    lambda: {"gradient": identities.constant_curvature()},
    ROOM
    + "test_jacobian.py::test_differentiating_through_the_curvature_multiplies_the_gradient_by_the_number_of_weight_"
    "matrices",
)


def times_smaller(profile: str = "laptop") -> dict[str, dict[str, Sample]]:
    """By method: how many times smaller |J|² and |W|² are with decoupled decay of 0.1 than without, by seed."""
    frame, found = runs.jacobian.read(profile, weight_decay=[0.0, 0.1]), {}
    frame = frame.assign(square=frame["norm"] ** 2)
    for method, part in frame.groupby("method", sort=False):
        without, decayed = (part[part.weight_decay == value] for value in (0.0, 0.1))
        columns = {"|J|²": "jacobian", "|W|²": "square"}
        found[str(method)] = {
            name: _each(lambda a, b: a / b, sample(without, column), sample(decayed, column))
            for name, column in columns.items()
        }
        learned(f"{method} without decay", without.test_accuracy.mean(), chance=0.1)
    return found


def _collapse(profile: str) -> Evidence:
    falls = times_smaller(profile)
    ours = {method: values["|J|²"] for method, values in falls.items()}
    return Evidence(ours, {"K-FAC-G over SGD": _each(lambda a, b: a / b, ours["K-FAC-G"], ours["SGD"])})


EQUAL_DECAY = (
    "coefficient, epochs, batch size, start (per step SGD decays more: its learning rate is 3.3 times K-FAC's)"
)
jacobian_collapse = Claim(
    "weight_decay",
    "jacobian_collapse",
    "Decay shrinks the squared Jacobian norm far more under K-FAC than under SGD (times smaller, decay 0.1 against "
    "none; far more: at least twice)",
    "section 4.2, table on Jacobian norms",
    Threshold(above=2.0),
    _collapse,
    equal=EQUAL_DECAY,
    test=ROOM + "test_measure.py::test_decay_shrinks_the_jacobian_more_and_the_length_less_under_kfac_than_under_sgd",
)


def _lengths(profile: str) -> Evidence:
    falls = times_smaller(profile)
    tested = {
        "|J|², K-FAC-G less SGD": falls["K-FAC-G"]["|J|²"] - falls["SGD"]["|J|²"],
        "|W|², SGD less K-FAC-G": falls["SGD"]["|W|²"] - falls["K-FAC-G"]["|W|²"],
    }
    return Evidence({method: values["|W|²"] for method, values in falls.items()}, tested)


not_the_length = Claim(
    "weight_decay",
    "not_the_length",
    "What decay controls under K-FAC is not the length of the weights: it shrinks less than under SGD, and the "
    "Jacobian more (times smaller |W|², decay 0.1 against none)",
    "section 4.2",
    Direction(),
    _lengths,
    equal=EQUAL_DECAY,
    test=ROOM + "test_measure.py::test_decay_shrinks_the_jacobian_more_and_the_length_less_under_kfac_than_under_sgd",
)


def _correlations(profile: str) -> Evidence:
    frame = runs.correlations.read(profile, networks="all")
    return Evidence({"with the K-FAC norm": sample(frame, "with_kfac_norm"), "with the gap": sample(frame, "with_gap")})


jacobian_correlates = Claim(
    "weight_decay",
    "jacobian_correlates",
    "Over fully connected networks of several widths and depths the Jacobian norm correlates strongly with the K-FAC "
    "norm and with the generalisation gap (correlations over all networks; strongly: above 0.8)",
    "section 4.2, figure on Jacobian norms",
    Threshold(above=0.8),
    _correlations,
    test=ROOM + "test_measure.py::test_correlations_are_those_of_the_networks_that_are_trained",
)


# Mechanism 3


effective_damping = _exact(
    "effective_damping",
    "At c θ a damped K-FAC step is c times the step at θ with damping c² λ",
    "section 4.3",
    lambda: {fisher: identities.damped_step(fisher) for fisher in ("exact", "gauss_newton_exact")},
    TESTS + "test_damping.py::test_a_damped_step_at_long_weights_is_the_step_at_short_ones_with_more_damping",
)


def _becomes_sgd(profile: str) -> Evidence:
    frame = runs.drawn.read(profile)
    names = {"0.1 θ": "degrees_short", "θ": "degrees", "1000 θ": "degrees_long"}
    found = {name: sample(frame, column) for name, column in names.items()}
    return Evidence(found, {"1000 θ over θ": _each(lambda a, b: a / b, found["1000 θ"], found["θ"])})


kfac_becomes_sgd = Claim(
    "weight_decay",
    "kfac_becomes_sgd",
    "As weights under BatchNorm grow, K-FAC at constant damping turns into SGD (degrees between step and gradient; at "
    "1000 θ less than a hundredth of those at θ)",
    "section 4.3",
    Threshold(below=0.01),
    _becomes_sgd,
    same=BOTH,
    test=TESTS + "test_damping.py::test_growing_weights_turn_the_kfac_step_into_the_gradient",
)


def changes(profile: str = "laptop") -> dict[str, dict[str, Sample]]:
    """By kind of decay and quantity: last epoch over first, by seed."""
    frame, found = runs.curvature.read(profile), {}
    for decay, part in frame.groupby("decay"):
        ends = part.set_index(["seed", "epoch"]).unstack("epoch")
        last = part.epoch.max()
        found[str(decay)] = {
            name: Sample(tuple(ends[name][last] / ends[name][0]))
            for name in ("fisher", "gauss_newton", "effective_damping")
        }
    return found


def _falls(profile: str) -> Evidence:
    found = changes(profile)["none"]
    ours = {"Fisher": found["fisher"], "Gauss–Newton": found["gauss_newton"]}
    tested = {
        "log of the Fisher matrix's fall": _each(lambda ratio: -math.log(ratio), ours["Fisher"]),
        "log of the Gauss–Newton matrix's rise": _each(math.log, ours["Gauss–Newton"]),
    }
    return Evidence(ours, tested)


FISHER_TEST = ROOM + "test_follow.py::test_the_fisher_falls_and_the_gauss_newton_matrix_does_not"
fisher_falls = Claim(
    "weight_decay",
    "fisher_falls",
    "During training the Fisher matrix of the normalised first layer falls while the Gauss–Newton matrix rises (last "
    "epoch over first, no decay)",
    "section 4.3, figure",
    Direction(),
    _falls,
    test=FISHER_TEST,
)


def _powers_of_ten(profile: str) -> Evidence:
    found = changes(profile)["none"]
    ratios = {"Fisher": found["fisher"], "Gauss–Newton": found["gauss_newton"]}
    return Evidence({name: _each(math.log10, ratio) for name, ratio in ratios.items()})


fisher_falls_by = Claim(
    "weight_decay",
    "fisher_falls_by",
    "The Fisher matrix of the normalised first layer falls by orders of magnitude and the Gauss–Newton matrix rises a "
    "few times (last epoch over first, no decay, in powers of ten)",
    "section 4.3, figure",
    Figure(margin=0.5, reading=0.3),
    _powers_of_ten,
    paper={"Fisher": -4, "Gauss–Newton": 0.3},
    certainty="printed",
    test=FISHER_TEST,
)


def _keeps_damping(profile: str) -> Evidence:
    found = {decay: values["effective_damping"] for decay, values in changes(profile).items()}
    tested = {
        "log of the growth without decay": _each(math.log, found["none"]),
        "without decay less with decay": found["none"] - found["decoupled"],
    }
    return Evidence({"without decay": found["none"], "with decay": found["decoupled"]}, tested)


decay_keeps_damping = Claim(
    "weight_decay",
    "decay_keeps_damping",
    "Without decay the effective damping grows, with decay less or not at all (last epoch over first)",
    "section 4.3",
    Direction(),
    _keeps_damping,
    test=ROOM + "test_follow.py::test_decay_holds_down_the_effective_damping",
)


# All optimisers, all decays


def _main(profile: str) -> pd.DataFrame:
    """The runs of the main comparison: the mean over networks is taken seed by seed."""
    return runs.networks.read(profile, data=MAIN[profile])


def accuracy(frame: pd.DataFrame, batch_norm: bool, method: str, decay: str, where: str = "all") -> Sample:
    """Test accuracy in points by seed, the mean over the data sets and networks of these runs.

    Raises:
        NotRun: where there is no such run.
        Unfair: where a run diverged, or ended at chance.
    """
    of_method = (frame.batch_norm == batch_norm) & (frame.method == method)
    frame = frame[of_method & (frame.decay == decay) & (frame["where"] == where)]
    what = f"{method}, {'BN' if batch_norm else 'plain'}, {decay}"
    if frame.empty:
        raise NotRun(f"no run of {what}")
    if frame.diverged.any():
        raise Unfair(f"a run of {what} diverged")
    means = frame.groupby("seed", as_index=False).test_accuracy.mean()
    learned(what, means.test_accuracy.mean(), chance=0.1)
    return sample(means.assign(points=100 * means.test_accuracy), "points")


def gain(frame: pd.DataFrame, batch_norm: bool, method: str, decay: str = "", where: str = "all") -> Sample:
    """What decay of this kind, by default the paper's for the method, adds to the accuracy without."""
    decayed = accuracy(frame, batch_norm, method, decay or KIND.get(method, "decoupled"), where)
    return decayed - accuracy(frame, batch_norm, method, "none")


def _decay_or_l2(profile: str) -> Evidence:
    methods, frame = [method for method in (*FIRST, *SECOND) if method != "SGD"], _main(profile)
    return Evidence(
        {
            f"{method}, {name}": accuracy(frame, bn, method, "decoupled") - accuracy(frame, bn, method, "l2")
            for bn, name in ((PLAIN, "plain"), (BN, "BN"))
            for method in methods
        }
    )


MAIN_TEST = ROOM + "test_measure.py::test_decay_makes_weights_shorter_in_every_method"
TUNED = "epochs, batch size, start; learning rate chosen without decay, coefficient by the accuracy of one seed"
decay_or_l2 = Claim(
    "weight_decay",
    "decay_or_l2",
    "Decoupled decay is at least as good as L2 wherever the two differ (test accuracy of decoupled decay minus that of "
    "L2, in points; at least as good: no more than a point behind)",
    "section 3, main table",
    Threshold(above=-1.0),
    _decay_or_l2,
    equal=TUNED + " from two to four for each kind",
    test=MAIN_TEST,
)


def _largest_gain(profile: str) -> Evidence:
    kinds, frame = {"K-FAC": SECOND, "SGD and Adam": FIRST}, _main(profile)
    gains = {
        f"{name}, {short}": _mean(*(gain(frame, bn, method) for method in methods))
        for bn, short in ((PLAIN, "plain"), (BN, "BN"))
        for name, methods in kinds.items()
    }
    ours = gains["K-FAC, plain"]
    return Evidence(gains, {f"over {name}": ours - value for name, value in gains.items() if value is not ours})


largest_gain = Claim(
    "weight_decay",
    "largest_gain",
    "Decay gains most for K-FAC without BatchNorm (gain in test accuracy, in points, means over both methods; L2 for "
    "SGD, decoupled for the others, as in the paper)",
    "section 3",
    Direction(),
    _largest_gain,
    equal=TUNED,
    test=MAIN_TEST,
)


def _first_and_second_order(profile: str) -> Evidence:
    frame = _main(profile)
    behind = {
        name: accuracy(frame, BN, "K-FAC-G", second) - accuracy(frame, BN, "SGD", first)
        for name, second, first in (("without decay", "none", "none"), ("with decay", "decoupled", "l2"))
    }
    tested = {
        "behind without decay": _each(lambda gap: -gap, behind["without decay"]),
        "half of it less what is left": _each(lambda a, b: b - 0.5 * a, behind["without decay"], behind["with decay"]),
    }
    return Evidence(behind, tested)


first_and_second_order = Claim(
    "weight_decay",
    "first_and_second_order",
    "Decay closes most of the gap in test accuracy by which K-FAC is behind SGD with BatchNorm (K-FAC-G minus SGD, in "
    "points; L2 for SGD, decoupled for K-FAC, as in the paper)",
    "section 3",
    Direction(),
    _first_and_second_order,
    equal=TUNED,
    test=MAIN_TEST,
)


def by_layers(frame: pd.DataFrame, method: str) -> dict[str, Sample]:
    """Gain in points of decoupled decay on the last layer, on the hidden ones, on all; with BatchNorm."""
    return {where: gain(frame, BN, method, "decoupled", where) for where in ("last", "hidden", "all")}


def _first_order_layers(profile: str) -> Evidence:
    frame = _main(profile)
    each = [by_layers(frame, method) for method in FIRST]
    gains = {where: _mean(*(found[where] for found in each)) for where in each[0]}
    tested = {
        "all layers": gains["all"],
        "hidden alone less four fifths of that": _each(lambda a, b: b - 0.8 * a, gains["all"], gains["hidden"]),
        "a fifth of that less last alone": _each(lambda a, b: 0.2 * a - b, gains["all"], gains["last"]),
    }
    return Evidence(gains, tested)


WHERE_TEST = TESTS + "test_optimizers.py::test_only_the_chosen_layers_decay"
first_order_layers = Claim(
    "weight_decay",
    "first_order_layers",
    "For SGD and Adam with BatchNorm, decay on the hidden layers alone gives almost all of the gain and decay on the "
    "last layer alone none (gain in points, mean of SGD and Adam; almost all: four fifths; none: less than a fifth)",
    "section 4.1, figure",
    Direction(),
    _first_order_layers,
    equal="learning rate, coefficient, epochs, start",
    test=WHERE_TEST,
)


def _kfac_last(profile: str) -> Evidence:
    frame = _main(profile)
    found = {method: by_layers(frame, method) for method in SECOND}
    shown = {f"{method}, {where}": found[method][where] for method in SECOND for where in ("last", "hidden")}
    return Evidence(shown, {method: found[method]["last"] - found[method]["hidden"] for method in SECOND})


kfac_last_layer = Claim(
    "weight_decay",
    "kfac_last_layer",
    "For K-FAC with BatchNorm, decay on the last layer alone has more effect than on the hidden layers alone (gain in "
    "points)",
    "section 4.3",
    Direction(),
    _kfac_last,
    equal="learning rate, coefficient, epochs, start",
    test=WHERE_TEST,
)


def _kfac_hidden(profile: str) -> Evidence:
    frame = _main(profile)
    gains = {method: by_layers(frame, method)["hidden"] for method in SECOND}
    return Evidence(gains, gains | {"K-FAC-F less K-FAC-G": gains["K-FAC-F"] - gains["K-FAC-G"]})


kfac_hidden_layers = Claim(
    "weight_decay",
    "kfac_hidden_layers",
    "For K-FAC with BatchNorm, decay on the hidden layers alone still helps, K-FAC-F most (gain in points)",
    "section 4.3",
    Direction(),
    _kfac_hidden,
    equal="learning rate, coefficient, epochs, start",
    test=WHERE_TEST,
)


# The paper's own size


def _cifar_table(profile: str) -> Evidence:
    names = MAIN["paper"]
    plain, augmented = (
        runs.networks.read(profile, data=[name + more for name in names]) for more in ("", ", augmented")
    )
    cases = ((PLAIN, plain), (BN, plain), (BN, augmented))
    gains = {method: _mean(*(gain(frame, bn, method) for bn, frame in cases)) for method in (*FIRST, *SECOND)}
    most = _mean(*(gains[method] for method in SECOND)) - _mean(*(gains[method] for method in FIRST))
    return Evidence(gains, gains | {"K-FAC less first order": most})


cifar_table = Claim(
    "weight_decay",
    "cifar_table",
    "VGG16 and ResNet32 on CIFAR-10: decay improves all four optimisers, K-FAC most (gain in test accuracy, in points)",
    "section 3, main table",
    Direction(),
    _cifar_table,
    equal="epochs, batch size, start; learning rates and KL clips of the authors, with decay and without",
    test=ROOM + "test_paper.py::test_each_recipe_runs_shortened_through_the_same_code",
)
cifar100_table = Claim(
    "weight_decay",
    "cifar100_table",
    "VGG16 and ResNet32 on CIFAR-100: decay improves all four optimisers, K-FAC most",
    "section 3, main table",
    Direction(),
    missing="CIFAR-100, which has no loader here, and a GPU",
)
large_batch = Claim(
    "weight_decay",
    "large_batch",
    "Decay closes most of the gap in test accuracy between small and large batches",
    "appendix on large batches",
    Direction(),
    missing="runs on CIFAR-10 at batch sizes 128 and 2,000, on a GPU",
)
fast_training = Claim(
    "weight_decay",
    "fast_training",
    "K-FAC-G reaches a training loss of 1e-4 within ten epochs on CIFAR-10, at batch size 640 and a constant learning "
    "rate",
    "appendix on optimisation",
    Threshold(below=1e-4),
    missing="ten epochs on CIFAR-10 at batch size 640, on a GPU",
)
jacobian_convolutional = Claim(
    "weight_decay",
    "jacobian_convolutional",
    "The Jacobian norm of VGG11 to VGG19 correlates with the generalisation gap",
    "appendix",
    Threshold(above=0.0),
    missing="VGG11, 13, 16 and 19 trained on CIFAR-10, on a GPU",
)
