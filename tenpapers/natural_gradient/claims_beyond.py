"""What lies beyond the theorem: other parametrisations, mini-batches, a deeper network.

Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

import pandas as pd

from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, Unfair, held_equal, learned
from tenpapers.claims import sample as sample_of
from tenpapers.natural_gradient import runs
from tenpapers.natural_gradient.batches import deep_problem
from tenpapers.natural_gradient.claims_widths import BOTH
from tenpapers.natural_gradient.units import mixed_steps

UNITS, BATCHES = (
    "tests/tenpapers/natural_gradient/test_units.py::",
    "tests/tenpapers/natural_gradient/test_batches.py::",
)
OURS = "ours; the step is the paper's"


def _reparametrisation(profile: str) -> Evidence:
    found = {}
    for name, n in (("40 examples, 13 parameters", 40), ("6 examples, 13 parameters", 6)):
        own, mixed, moved, moved_mixed = mixed_steps(n)
        step = float((mixed - own).norm() / own.norm())
        found[f"{name}: outputs, to first order"] = float((moved_mixed - moved).norm() / moved.norm())
        found[f"{name}: step"] = step if n > len(own) else step > 0.1
    return Evidence(found)


reparametrisation = Claim(
    "natural_gradient",
    "reparametrisation",
    "Where the Fisher matrix is invertible the step is the same whatever linear coordinates the parameters have; where "
    "it is singular the minimum-norm step is another one (by more than a tenth), with the same change of the training "
    "outputs to first order",
    OURS,
    Exact(1e-6),
    _reparametrisation,
    same=BOTH,
    test=UNITS + "test_step_is_invariant_where_the_fisher_matrix_is_invertible_and_only_there",
)


def _in_units(profile: str, column: str, method: str = "Natural gradient") -> dict[int, Sample]:
    """The relative difference of two runs, by width; factor 4, more points than dimensions."""
    frame = runs.in_units.read(profile, method=method, factor=4.0, d=10)
    return {int(str(width)): sample_of(part, column) for width, part in frame.groupby("width")}


def _shown(found: dict[int, Sample]) -> dict[str, Sample]:
    return {f"m = {width}": value for width, value in found.items()}


units = Claim(
    "natural_gradient",
    "units",
    "With half of the inputs in units four times as large, the natural gradient arrives at other outputs on new points "
    "(difference after five steps over the way there: more than a tenth, at each width)",
    OURS,
    Threshold(above=0.1),
    lambda profile: Evidence(_shown(_in_units(profile, "test"))),
    equal="function at the start, data, lr, steps, seed",
    same=BOTH,
    test=UNITS + "test_other_units_give_the_natural_gradient_other_outputs_on_new_points_and_kfac_the_same",
)


def _units_training(profile: str) -> Evidence:
    found = _in_units(profile, "training")
    narrow, wide = min(found), max(found)
    return Evidence(_shown(found), {f"{narrow} less {wide}": found[narrow] - found[wide]})


units_training = Claim(
    "natural_gradient",
    "units_training",
    "On the training points the two runs differ the less the wider the network (largest difference of a step over "
    "|u(0) − y|)",
    OURS,
    Direction(),
    _units_training,
    equal="function at the start, data, lr, steps, seed",
    same=BOTH,
    test=UNITS + "test_other_units_give_the_natural_gradient_other_outputs_on_new_points_and_kfac_the_same",
)
units_kfac = Claim(
    "natural_gradient",
    "units_kfac",
    "K-FAC arrives at the same outputs in either units, where there are more points than dimensions (difference on new "
    "points: rounding)",
    f"{OURS}; 1503.05671, section 10",
    Equal(1e-9),
    lambda profile: Evidence(_shown(_in_units(profile, "test", "K-FAC"))),
    equal="function at the start, data, lr, steps, seed",
    same=BOTH,
    test=UNITS + "test_other_units_give_the_natural_gradient_other_outputs_on_new_points_and_kfac_the_same",
)


def slower(profile: str) -> dict[int, Sample]:
    """Passes at an angle of 0.1 between two points over passes at an angle of 1, by batch size, largest first."""
    frame = runs.passes.read(profile, gap=[1.0, 0.1])
    found = {}
    for batch_size, part in frame.groupby("batch_size"):
        wide, close = (sample_of(part[part.gap == gap], "epochs").values for gap in (1.0, 0.1))
        found[int(str(batch_size))] = Sample(tuple(b / a for a, b in zip(wide, close, strict=True)))
    return dict(sorted(found.items(), reverse=True))


def _minibatch_conditioning(profile: str) -> Evidence:
    found = slower(profile)
    whole, few, one = max(found), 6, 1
    shown = {f"batch size {size}": value for size, value in found.items()}
    return Evidence(shown, {"6 over 24": found[few] - found[whole], "1 over 6": found[one] - found[few]})


minibatch_conditioning = Claim(
    "natural_gradient",
    "minibatch_conditioning",
    "With mini-batches the rate depends on the conditioning again even at infinite width, and the more the smaller the "
    "batch (passes that two close points need, gap 0.1 over gap 1)",
    "ours; the paper's theorems are about all examples at once",
    Direction(),
    _minibatch_conditioning,
    equal="points, targets, order of the examples, what is left (1 %)",
    same=BOTH,
    test=BATCHES + "test_small_batches_feel_the_conditioning_and_the_whole_batch_does_not",
)


def tuned_runs(profile: str) -> pd.DataFrame:
    """The runs of the deep network; a comparison of unequal trials, or of a rate at the end of its grid, is refused."""
    chosen, frame = runs.best(runs.tuning.read(profile)), runs.deep.read(profile)
    settings = chosen.reset_index()[["method", "lr", "damping"]]
    frame = frame.merge(settings)
    held_equal("trials", {str(method): row.tried for method, row in chosen.iterrows()})
    held_equal("passes", {str(method): part.epochs.max() for method, part in frame.groupby("method")})
    if len(at_end := chosen[chosen.edge]):
        raise Unfair(f"best learning rate at the end of its grid: {', '.join(map(str, at_end.index))}")
    if len(lost := frame[frame.loss.isna()]):
        raise Unfair(f"{len(lost)} of {len(frame)} runs diverged: {', '.join(lost.method.unique())}")
    for method, part in frame.groupby("method"):
        learned(str(method), 1 - part.error.mean(), 0.5)
    return frame


def _ahead(profile: str, column: str, overlap: float = 0.0) -> Evidence:
    frame = tuned_runs(profile)
    found = {
        str(method): sample_of(part, column, overlap=overlap) for method, part in frame.groupby("method", sort=False)
    }
    second = ("Natural gradient", "K-FAC")
    return Evidence(
        found, {f"{a} less {b}": found[a] - found[b] for a in ("SGD", "Momentum") for b in second if a in found}
    )


minibatch_progress = Claim(
    "natural_gradient",
    "minibatch_progress",
    "On a network with four hidden layers, in mini-batches of 50, the natural gradient and K-FAC go lower than SGD "
    "with and without momentum in as many steps (log10 of the training loss after five passes)",
    "experiments (their sizes are not known here); no theorem of the paper covers it",
    Direction(),
    lambda profile: _ahead(profile, "log_loss"),
    equal="network, images, batches, steps, trials of lr and damping (15 each, on three other seeds)",
    same=(),
    test=BATCHES + "test_natural_gradient_goes_lower_than_sgd_on_a_deep_network_in_mini_batches",
)


def _error(profile: str) -> Evidence:
    (x, _), _, (x_test, _) = deep_problem(0)
    return _ahead(profile, "error", overlap=len(x_test) / len(x))


minibatch_error = Claim(
    "natural_gradient",
    "minibatch_error",
    "In the same runs the natural gradient and K-FAC make fewer errors on new images than SGD with and without "
    "momentum (share of the test images)",
    "ours",
    Direction(),
    _error,
    equal="network, images, batches, steps, trials of lr and damping (15 each, on three other seeds)",
    same=(),
    test=BATCHES + "test_natural_gradient_goes_lower_than_sgd_on_a_deep_network_in_mini_batches",
)
