"""How far does a step go? Inverses across layers, lengths of steps, and training: claims of arXiv 1503.05671.

Chapter: ``book/curvature.ipynb``.
"""

from tenpapers.claims import Claim, Direction, Evidence, Sample, Threshold, Unfair, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.claims.ledger import tables_of
from tenpapers.curvature import runs

MEASURES = "tests/tenpapers/curvature/test_measure.py::"
STEPS = "tests/tenpapers/curvature/test_steps.py::"


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


def _tridiagonal_inverse(profile: str) -> Evidence:
    shown, ahead = {}, {}
    for damping, part in runs.inverses.read(profile).groupby("damping"):
        for column, sign in (("error", 1), ("share", -1)):
            found = {str(method): sample_of(rows, column) for method, rows in part.groupby("method", sort=False)}
            shown |= {f"{column}, {method}, λ = {damping:g}": value for method, value in found.items()}
            alone, chain = found["block-diagonal"], found["block-tridiagonal"]
            ahead[f"{column}, λ = {damping:g}"] = alone - chain if sign > 0 else chain - alone
    return Evidence(shown, ahead)


tridiagonal_inverse = Claim(
    "curvature",
    "tridiagonal_inverse",
    "The block-tridiagonal inverse is nearer to that of the whole damped Fisher matrix than the block-diagonal one "
    "(relative error), and its step brings a larger share of the best decrease",
    "1503.05671, section 4.3",
    Direction(),
    _tridiagonal_inverse,
    equal="network, examples, factored damping",
    same=(),
    test=STEPS + "test_block_tridiagonal_inverse_is_nearer_and_its_step_better_on_the_pages_network",
)


def _trained(profile: str, *lengths: str) -> dict[str, dict[str, dict[str, Sample]]]:
    """The logarithm of the training loss, by inverse, length and damping; where runs diverged they are not compared."""
    frame = runs.trainings.read(profile, length=lengths)
    held_equal("steps", {str(name): part.steps.max() for name, part in frame.groupby("inverse")})
    found: dict[str, dict[str, dict[str, Sample]]] = {}
    whole = frame.groupby(["inverse", "length", "adapted"], sort=False).filter(lambda part: part.log_loss.notna().all())
    for (inverse, length, adapted), part in whole.groupby(["inverse", "length", "adapted"], sort=False):
        damping = "λ adapted" if adapted else "λ = 0.03"
        found.setdefault(str(inverse), {}).setdefault(str(length), {})[damping] = sample_of(part, "log_loss")
    if len(lost := frame[frame.log_loss.isna()]):
        told = ", ".join(dict.fromkeys(f"{row.inverse}, length {row.length}" for row in lost.itertuples()))
        raise Unfair(f"{len(lost)} of {len(frame)} runs diverged: {told}", _told(found))
    return found


def _told(found: dict[str, dict[str, dict[str, Sample]]]) -> dict[str, Sample]:
    return {
        f"{inverse}, length {length}, {damping}": value
        for inverse, by_length in found.items()
        for length, by_damping in by_length.items()
        for damping, value in by_damping.items()
    }


def _tridiagonal(profile: str) -> Evidence:
    found = _trained(profile, "best", "best, with momentum")
    alone, chained = found["block-diagonal"], found["block-tridiagonal"]
    ahead = {
        f"length {length}, {damping}": alone[length][damping] - chained[length][damping]
        for length in alone
        for damping in alone[length]
    }
    return Evidence(_told(found), ahead)


tridiagonal = Claim(
    "curvature",
    "tridiagonal",
    "Keeping the dependence between neighbouring layers in the inverse (block-tridiagonal) makes more progress in as "
    "many steps than the block diagonal (log10 of the training loss of the small network after 30 re-scaled steps)",
    "1503.05671, sections 4.3 and 13",
    Direction(),
    _tridiagonal,
    equal="network, examples, start, steps, rule of damping and length",
    same=(),
    test=STEPS + "test_block_tridiagonal_inverse_is_nearer_and_its_step_better_on_the_pages_network",
)


def _lengths(profile: str, longer: str, than: str) -> Evidence:
    found = _trained(profile, than, longer)
    ahead = {
        f"{inverse}, {damping}": by_length[than][damping] - by_length[longer][damping]
        for inverse, by_length in found.items()
        for damping in by_length[than]
    }
    return Evidence(_told(found), ahead)


rescaling = Claim(
    "curvature",
    "rescaling",
    "Steps re-scaled by the quadratic model with the exact Fisher matrix go lower than steps as they are (log10 of the "
    "training loss after 30 steps)",
    "1503.05671, section 6.4",
    Direction(),
    lambda profile: _lengths(profile, "best", "1"),
    equal="network, examples, start, steps, inverse, rule of damping",
    same=(),
    test="tests/nnlib/curvature/test_quadratic.py::test_multiples_minimise_the_model_in_the_span",
)
quadratic_momentum = Claim(
    "curvature",
    "quadratic_momentum",
    "The last step as a second direction of the same model, which is a momentum without a coefficient to tune, goes "
    "lower still",
    "1503.05671, section 7",
    Direction(),
    lambda profile: _lengths(profile, "best, with momentum", "best"),
    equal="network, examples, start, steps, inverse, rule of damping",
    same=(),
    test="tests/nnlib/curvature/test_quadratic.py::test_multiples_minimise_the_model_in_the_span",
)


def _kl_clip(profile: str) -> Evidence:
    frame, shown, tested = runs.clips.read(profile), {}, {}
    for momentum, part in frame.groupby("momentum"):
        shown |= {f"{column}, momentum {momentum:g}": sample_of(part, column) for column in ("median", "largest")}
        tested[f"largest, momentum {momentum:g}"] = sample_of(part, "largest")
    return Evidence(shown, tested)


kl_clip = Claim(
    "curvature",
    "kl_clip",
    "With the KL clip no step changes the predictions on its batch by more than κ (KL divergence over κ, median and "
    "largest of 60 steps)",
    "ours; a common reading of the clip, which usually comes with K-FAC",
    Threshold(below=1.0),
    _kl_clip,
    same=(),
    test=STEPS + "test_kl_clip_bounds_a_length_in_the_factors_and_not_how_far_the_predictions_move",
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
