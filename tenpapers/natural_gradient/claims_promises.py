"""What is promised for new examples, and of which width?

Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

from itertools import pairwise

from tenpapers.claims import Claim, Direction, Equal, Evidence, Sample, Threshold, Unfair
from tenpapers.claims import sample as sample_of
from tenpapers.natural_gradient import runs
from tenpapers.natural_gradient.claims_widths import MEASURES, NOTE, TESTS, WIDE, off
from tenpapers.natural_gradient.workloads import pair

GENERAL = "generalisation"


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
    checked = {f"{name} over its formula, less 1": off(sample_of(frame, name), 1.0) for name in ("certified", "broken")}
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
    paper={"": "m = Ω(n⁴ / (ν² λ₀⁴ δ³))"},
    certainty=NOTE,
    test=TESTS + "test_conditions.py::test_certified_radius_has_its_large_width_form",
)
