"""What the paper says of optimisers and batch sizes, and what decides it here. Paper: arXiv 1907.04164.

Claims on the model are computed when they are judged, those on networks read the recorded runs.
"""

import math
from collections.abc import Callable

from nnlib.nqm import HeavyBall, IterateAverage
from tenpapers.claims import Claim, Deterministic, Direction, Equal, Evidence, Exact, Threshold
from tenpapers.claims.rules import Rule
from tenpapers.nqm import comparisons, predictions
from tenpapers.nqm.measure import SPACING

READING = 0.23  # of a ratio of two curves, each read off the authors' plot to 0.15 in log2: 2^0.3 - 1
STEPS = "section 3, figure on steps to target"
RATES = "section 3, figure on learning rates"
AVERAGES = "section 3, figure on averaging"
SCHEDULES = "section 3, figure on schedules"
PREDICTIONS = "tests/nnlib/nqm/test_predictions.py::test_"


def _on_model(
    id: str,
    statement: str,
    where: str,
    rule: Rule,
    evidence: Callable[[], Evidence],
    test: str,
    paper: dict[str, float] | None = None,
) -> Claim:
    """A claim about the paper's own mathematical object, whatever the profile."""
    figure = {"paper": paper, "certainty": "read off a figure"} if paper else {}
    here = {"same": ("laptop", "paper"), "test": test}
    return Claim("nqm", id, statement, where, rule, lambda profile: evidence(), **figure, **here)


momentum = _on_model(
    "momentum",
    "Momentum helps past SGD's critical batch size, and hardly at all below it (here: SGD's steps over momentum's, "
    "p = 0)",
    STEPS,
    Deterministic(READING),
    lambda: Evidence(predictions.saving("Momentum")),
    PREDICTIONS + "momentum_saves_little_at_small_batches_and_much_at_large_ones",
    paper={"at B = 4": 1.15, "at B = 2^20": 41},
)
_PRECONDITIONING = PREDICTIONS + "preconditioning_helps_at_every_batch_size_and_raises_the_critical_one"
preconditioning = _on_model(
    "preconditioning",
    "Preconditioning reduces the steps at small batches and at large ones (here: SGD's steps at p = 0 over p = 3/4)",
    STEPS,
    Deterministic(READING),
    lambda: Evidence(predictions.saving_of_preconditioning()),
    _PRECONDITIONING,
    paper={"at B = 4": 5.7, "at B = 2^20": 720},
)
preconditioning_everywhere = _on_model(
    "preconditioning_everywhere",
    "Preconditioning raises the critical batch size and also reduces the steps at every batch size (from p = 0 to 1/4, "
    "1/2 and 3/4, B = 4 to 2^20)",
    STEPS,
    Exact(0.0),
    lambda: Evidence(predictions.preconditioning()),
    _PRECONDITIONING,
)
averaging = _on_model(
    "averaging",
    "Averaging the iterates reduces the steps at small batches and not at large ones (SGD's steps over its average's, "
    "p = 0)",
    AVERAGES,
    Deterministic(READING),
    lambda: Evidence(predictions.saving("EMA")),
    PREDICTIONS + "averaging_helps_at_small_batches_and_not_at_large_ones",
    paper={"at B = 4": 6.5, "at B = 2^20": 1.0},
)
averaging_levels = _on_model(
    "averaging_levels",
    "With averaging, the steps at small batches hardly depend on the preconditioner (largest over smallest of p = 0 to "
    "3/4, B = 4)",
    AVERAGES,
    Deterministic(READING),
    lambda: Evidence(predictions.levels()),
    PREDICTIONS + "averaged_sgd_needs_nearly_the_same_examples_at_small_batches_whatever_the_preconditioner",
    paper={"SGD": 5.7, "with averaging": 1.2},
)


def _diminishing() -> Evidence:
    ours = predictions.doublings()
    first, last = ours.values()
    return Evidence(ours, {"first, over two": first / 2 - 1, "last": last - 1})


diminishing_returns = _on_model(
    "diminishing_returns",
    "Larger batches pay less and less: doubling the smallest halves the steps, doubling the largest saves nothing "
    "(from B = 4 to 8, and from 2^19 to 2^20; SGD, momentum and averaging, p = 0)",
    "abstract",
    Equal(0.1),
    _diminishing,
    PREDICTIONS + "doubling_the_batch_halves_the_steps_at_first_and_saves_nothing_in_the_end",
)


def _theorem(number: int, method: HeavyBall | IterateAverage, subject: str) -> Claim:
    return _on_model(
        f"theorem_{number}",
        f"The variance term of {subject} never exceeds its limit for many steps",
        f"theorem {number}",
        Exact(1e-9),
        lambda: Evidence(predictions.beside_the_limit(method)),
        "tests/nnlib/nqm/test_risk.py::test_theorems_bound_the_risk_and_are_reached_in_the_end",
    )


theorem_1 = _theorem(1, HeavyBall(lr=0.7, momentum=0.8), "heavy ball")
theorem_2 = _theorem(2, IterateAverage(lr=0.7, decay=0.99), "the averaged iterate")
floor = _on_model(
    "floor",
    "The flat part of SGD's curve at p = 0, in steps; the paper's is read off its figure",
    STEPS,
    Deterministic(500, relative=False),  # 6,900 to 7,900 on the authors' plot
    lambda: Evidence({"steps": int(predictions.curve("SGD").steps[-1])}),
    "tests/nnlib/nqm/test_steps.py::test_sgd_is_at_most_one_step_above_the_independent_optimum",
    paper={"steps": 7_400},
)


def _target() -> Evidence:
    ours = predictions.bends()
    easy, medium, hard = ours.values()
    return Evidence(ours, {"0.01 over 0.1": medium / easy, "0.001 over 0.01": hard / medium})


target = _on_model(
    "target",
    "A harder target moves the bend to larger batches (critical batch size of SGD at p = 0, from the asymptotes)",
    "section 3",
    Threshold(above=1.0),
    _target,
    PREDICTIONS + "harder_targets_move_the_bend_to_larger_batches",
    paper={"target 0.1": 104, "target 0.01": 800, "target 0.001": 7_100},
)
_BEST_RATE = (
    PREDICTIONS + "best_learning_rate_is_proportional_to_the_batch_size_and_then_saturates_later_with_more_"
    "preconditioning"
)


def _linear_scaling() -> Evidence:
    ours = predictions.exponents()
    return Evidence(ours, {name: exponent - 1 for name, exponent in ours.items()})


linear_scaling = _on_model(
    "linear_scaling",
    "Before it saturates, the best learning rate is proportional to the batch size (exponent of B, from B = 4 to 64)",
    RATES,
    Equal(0.02),
    _linear_scaling,
    _BEST_RATE,
)
learning_rate = _on_model(
    "learning_rate",
    "The best learning rate saturates, at a batch size that grows with the power p (first B with a rate above half the "
    "limit)",
    RATES,
    Deterministic(0.0),
    lambda: Evidence(predictions.saturation()),
    _BEST_RATE,
    paper={"p = 0": 512, "p = 0.25": 2_048, "p = 0.5": 8_192, "p = 0.75": 65_536},
)
effective_rate = _on_model(
    "effective_rate",
    "Momentum's effective learning rate is SGD's at small batches and goes on growing at large ones (ratio to SGD's)",
    RATES,
    Deterministic(READING),
    lambda: Evidence(predictions.effective_rates()),
    PREDICTIONS + "effective_learning_rates_of_momentum_and_sgd_agree_at_small_batches_only",
    paper={"at B = 4": 1.0, "at B = 2^20": 38},
)
_HELD_AT = {16: 5, 32: 12, 64: 22, 128: 33, 256: 41}  # batch size: pieces on the authors' plot
_SCHEDULE = PREDICTIONS + "best_schedule_holds_at_the_limit_and_ends_at_a_rate_proportional_to_the_batch_size"
schedule = _on_model(
    "schedule",
    "The best piecewise constant schedule holds the learning rate at its limit, longer the larger the batch (pieces of "
    "50 at the limit, p = 0)",
    SCHEDULES,
    Deterministic(1, relative=False),  # a piece more or less cannot be told on the authors' plot
    lambda: Evidence({f"B = {b}": predictions.held(b) for b in _HELD_AT}),
    _SCHEDULE,
    paper={f"B = {b}": pieces for b, pieces in _HELD_AT.items()},
)
schedule_dives = _on_model(
    "schedule_dives",
    "The best piecewise constant schedule, once it has left the limit, lowers the learning rate to the end (50 pieces, "
    "p = 0, B = 16 to 256)",
    SCHEDULES,
    Exact(0.0),
    lambda: Evidence({f"B = {b}": predictions.dives(b) for b in _HELD_AT}),
    _SCHEDULE,
)
ten_pieces = _on_model(
    "ten_pieces",
    "Ten pieces close most of the gap to the lower bound at small batches and hardly any at large ones (share closed, "
    "p = 0)",
    SCHEDULES,
    Deterministic(0.05, relative=False),  # 0.05 to 0.13 is what the authors' plot allows at the second
    lambda: Evidence({f"B = {b}": predictions.closed(b) for b in (16, 4096)}),
    PREDICTIONS + "ten_pieces_close_most_of_the_gap_to_the_bound_at_small_batches_and_hardly_any_at_large_ones",
    paper={"B = 16": 0.94, "B = 4096": 0.1},
)

NETWORKS = "section 4, experiments on neural networks"
MEASURE = "tests/tenpapers/nqm/test_measure.py::test_"
TUNED = "network, data, target, batch sizes, seeds; spacing and number of learning rates for each momentum"


def _on_networks(
    id: str, statement: str, rule: Rule, evidence: Callable[[str], Evidence], test: str, equal: str = TUNED
) -> Claim:
    return Claim("nqm", id, statement, NETWORKS, rule, evidence, equal=equal, test=MEASURE + test)


_MOMENTUM = "momentum_saves_more_at_the_whole_set_than_at_small_batches"
networks_momentum = _on_networks(
    "networks_momentum",
    "On networks too, momentum helps at large batches (SGD's steps over momentum's, at the largest batch size)",
    Direction(),
    lambda profile: comparisons.gain(profile, max),
    _MOMENTUM,
)
networks_momentum_small = _on_networks(
    "networks_momentum_small",
    "On networks too, momentum hardly helps at small batches: by no more than a quarter, about what it does in the "
    "model (SGD's steps over momentum's, at the smallest batch size)",
    Equal(round(math.log(1.25), 2)),  # of the logarithm; in the model the ratio is 1.17 to 1.27
    lambda profile: comparisons.gain(profile, min),
    _MOMENTUM,
)
_CRITICAL = "sgd_has_the_smallest_critical_batch_size"
networks_critical = _on_networks(
    "networks_critical",
    "Networks trained with momentum or Adam have a larger critical batch size than with SGD (where the asymptotes "
    "cross)",
    Direction(),
    lambda profile: comparisons.critical(profile, {"Momentum": ("SGD",), "Adam": ("SGD",)}),
    _CRITICAL,
)
networks_adam_critical = _on_networks(
    "networks_adam_critical",
    "Networks trained with Adam have a larger critical batch size than with momentum (where the asymptotes cross)",
    Direction(),
    lambda profile: comparisons.critical(profile, {"Adam": ("Momentum",)}),
    _CRITICAL,
)
networks_averaging = _on_networks(
    "networks_averaging",
    "Averaging the iterates helps networks mostly at small batches (SGD's steps over its average's)",
    Direction(),
    comparisons.averaging,
    "averaging_saves_steps_at_small_batches_and_none_at_the_whole_set",
)
_RATE = "best_rate_of_a_small_batch_is_too_small_for_the_whole_set_and_the_other_way_round"
_SEARCHED = "network, data, target, seeds, spacing and number of learning rates"
networks_learning_rate = _on_networks(
    "networks_learning_rate",
    "SGD's best learning rate on networks grows with the batch size (largest against smallest batch size)",
    Direction(),
    comparisons.rate_grows,
    _RATE,
    equal=_SEARCHED,
)
networks_learning_rate_stays = _on_networks(
    "networks_learning_rate_stays",
    "Past the bend SGD's best learning rate on networks stays where it is (largest batch size over the one before, the "
    "same to a step of the grid)",
    Equal(round(math.log(SPACING), 2)),  # of the logarithm
    comparisons.rate_stays,
    _RATE,
    equal=_SEARCHED,
)
networks_kfac = _on_networks(
    "networks_kfac",
    "K-FAC reaches the target in fewer steps than Adam, momentum and SGD at every batch size (fewest steps of those "
    "three over K-FAC's)",
    Direction(),
    comparisons.kfac,
    "kfac_needs_the_fewest_steps_at_both_ends",
)


def _kfac_critical(data: str, networks: tuple[str, ...]) -> Claim:
    return _on_networks(
        f"networks_kfac_critical_{data}",
        f"K-FAC has the largest critical batch size, before Adam, momentum and SGD ({data}, where the asymptotes "
        "cross)",
        Direction(),
        lambda profile: comparisons.critical(profile, {"K-FAC": ("Adam", "Momentum", "SGD")}, networks),
        _CRITICAL,
    )


networks_kfac_critical_mnist = _kfac_critical("mnist", ("mnist", "mnist_cnn"))
networks_kfac_critical_digits = _kfac_critical("digits", ("digits",))
networks_size = Claim(
    "nqm",
    "networks_size",
    "The same order holds for ResNets and VGG on CIFAR-10 and a Transformer on a language corpus",
    NETWORKS,
    Direction(),
    missing="ResNet8, ResNet32 and VGG11 on CIFAR-10 and a Transformer on LM1B among the workloads, and a GPU",
)
