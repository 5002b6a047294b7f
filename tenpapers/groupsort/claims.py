"""What the paper says of GroupSort, and what decides it here. Paper: arXiv 1811.05381."""

import math
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn

from nnlib import groupsort
from nnlib.groupsort import LipschitzMLP
from nnlib.lipschitz import MaxMin, jacobians, lipschitz_constant
from tenpapers.claims import Claim, Direction, Equal, Evidence, Exact, Sample, Threshold, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.groupsort import runs
from tenpapers.groupsort.measure import jacobian_spectrum

METHODS = "tests/nnlib/groupsort/"
EXPERIMENTS = "tests/tenpapers/groupsort/"
ROBUSTNESS = "section 5, robustness"


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _negative_result(profile: str) -> Evidence:
    found = {}
    for activation in ("ReLU", "tanh"):
        gaps, norms = [], []
        for index in range(20):
            model = LipschitzMLP([2, 16, 16, 1], activation, seed=index, dtype=torch.float64).eval()
            generator = torch.Generator().manual_seed(index)
            for layer in model:
                if isinstance(bias := getattr(layer, "bias", None), nn.Parameter):
                    nn.init.uniform_(bias, -0.5, 0.5, generator=generator)
            x = torch.randn(200, 2, generator=generator, dtype=torch.float64)
            other = x.flip(0)
            with torch.no_grad():
                gaps.append(((model(x) + model(other)) / 2 - model((x + other) / 2)).abs().max().item())
            norms.append(jacobians(model, x)[:, 0].norm(dim=1).min().item())
        found[f"{activation}: all bend"] = min(gaps) > 1e-3
        found[f"{activation}: all lose gradient"] = max(norms) < 1 - 1e-3
    return Evidence(found)


negative_result = Claim(
    "groupsort",
    "negative_result",
    "Norm-constrained networks with monotone activations that bend lose gradient somewhere "
    "(20 random networks of ReLU, 20 of tanh)",
    "section 3",
    Exact(0.0),
    _negative_result,
    same=("laptop", "paper"),
    test=METHODS
    + "test_constructions.py"
    + "::test_a_constrained_monotone_network_with_slope_1_at_two_points_is_straight_between_them",
)


def _half_a_v(profile: str) -> Evidence:
    root = math.sqrt(0.5)
    best = nn.Sequential(groupsort.affine([[root], [-root]]), nn.ReLU(), groupsort.affine([[root, root]]))
    x = torch.tensor([[-1.0], [1.0], [0.0]], dtype=torch.float64)
    w, v = (nn.functional.normalize(_draw(2000, 8, seed=s), dim=1) for s in (0, 1))
    hidden = (x[:, :, None] * w + _draw(2000, 8, seed=2)).relu()  # (3 points, 2000 networks, 8 units)

    def rise(f: Tensor) -> Tensor:
        return (f[0] + f[1]) / 2 - f[2]

    return Evidence(
        {
            "ReLU reaches half": rise(best(x)).item() - 0.5,
            "the ceiling is half": groupsort.relu_ceiling(1) - 0.5,
            "none of 2,000 random ones more": bool(rise((hidden * v).sum(2)).max() <= 0.5 + 1e-12),
            "two sorted units reach all": rise(groupsort.absolute_value()(x)).item() - 1.0,
        }
    )


half_a_v = Claim(
    "groupsort",
    "half_a_v",
    "With one hidden layer, ReLU reaches half of the V and two sorted units reach all of it",
    "section 3",
    Exact(1e-12),
    _half_a_v,
    same=("laptop", "paper"),
    test=METHODS
    + "test_constructions.py"
    + "::test_a_relu_network_of_one_hidden_layer_reaches_half_the_slope_of_the_absolute_value_and_no_more",
)


def _lattice(profile: str) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(12, 2, generator=generator, dtype=torch.float64)
    x, y = torch.rand(2, 4000, 2, generator=generator, dtype=torch.float64)
    found = {}
    for p in (1, 2, math.inf):
        target = torch.linalg.vector_norm(points - points[0], p, dim=1)
        network = groupsort.lattice_interpolant(points, target, p)
        slope = (network(x) - network(y)).abs()[:, 0] / torch.linalg.vector_norm(x - y, p, dim=1)
        found[f"p = {p:g}: meets all points"] = (network(points)[:, 0] - target).abs().max().item()
        found[f"p = {p:g}: slope at most 1"] = slope.max().item() <= 1 + 1e-12
    return Evidence(found)


lattice = Claim(
    "groupsort",
    "lattice",
    "A lattice of 1-Lipschitz networks interpolates any admissible values "
    "(12 points, p = 1, 2 and ∞; no slope above 1 between 4,000 pairs)",
    "section 3, theorems on lattices and universality",
    Exact(1e-12),
    _lattice,
    same=("laptop", "paper"),
    test=METHODS + "test_constructions.py::test_the_lattice_argument_interpolates_any_admissible_values_at_slope_1",
)


def _equivalences(profile: str) -> Evidence:
    x = _draw(500, 6, seed=1)
    pair, one, box = x[:, :2], x[:, :1], x.clamp(-1, 1)
    made = {  # network, inputs, what it should make of them, norm
        "MaxMin from |x|": (groupsort.maxmin_from_abs(), pair, pair.sort(1, True)[0], 2),
        "|x| from MaxMin": (groupsort.abs_from_maxmin(6), x, x.abs(), 2),
        "ReLU from MaxMin": (groupsort.leaky_relu_from_maxmin(), one, one.relu(), math.inf),
        "FullSort from MaxMin": (groupsort.full_sort_from_maxmin(6), x, x.sort(1)[0], math.inf),
        "MaxMin from FullSort": (groupsort.maxmin_from_full_sort(6, 1.0), box, MaxMin()(box), math.inf),
    }
    found = {}
    for name, (network, inputs, wanted, p) in made.items():
        found[name] = (network(inputs) - wanted).abs().max().item()
        found[f"{name}: constant 1"] = lipschitz_constant(network, p) - 1
    dear = lipschitz_constant(groupsort.maxmin_from_abs(), math.inf)
    return Evidence(found | {"MaxMin from |x|, ∞-norm: constant 2": dear - 2})


equivalences = Claim(
    "groupsort",
    "equivalences",
    "MaxMin, absolute value, FullSort and ReLU imitate one another at Lipschitz constant 1; "
    "in the ∞-norm this MaxMin from the absolute value costs a constant of 2",
    "appendix",
    Exact(1e-9),
    _equivalences,
    same=("laptop", "paper"),
    test=METHODS + "test_constructions.py::test_maxmin_is_a_rotation_of_the_absolute_value_and_back",
)


def _orthonormal_weights(profile: str) -> Evidence:
    turn = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    loose = turn @ torch.diag(torch.tensor([1.0, 0.3], dtype=torch.float64)) @ turn.T
    first, _, last = groupsort.absolute_value()
    model = nn.Sequential(first, MaxMin(), groupsort.affine(loose), MaxMin(), last)
    changed = groupsort.orthonormalised(model)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    values = torch.cat([torch.linalg.svdvals(layer.weight) for layer in changed if isinstance(layer, nn.Linear)])
    return Evidence(
        {
            "change of the function": (changed(x) - model(x)).abs().max().item(),
            "singular values, from 1": (values - 1).abs().max().item(),
        }
    )


orthonormal_weights = Claim(
    "groupsort",
    "orthonormal_weights",
    "A network with gradient norm 1 may have all its singular values set to 1 "
    "(one network: its function does not change where one of them was 0.3)",
    "section 3",
    Exact(1e-9),
    _orthonormal_weights,
    same=("laptop", "paper"),
    test=METHODS + "test_constructions.py::test_a_network_that_keeps_the_norm_of_its_gradient_may_be_made_orthonormal",
)


def _isometry(profile: str) -> Evidence:
    return Evidence(
        {
            name: (jacobian_spectrum(name, 10, 64) - 1).abs().max().item()
            for name in ("MaxMin", "GroupSort4", "FullSort", "Abs")
        }
    )


isometry = Claim(
    "groupsort",
    "isometry",
    "At the start, orthogonal weights with sorting are an isometry "
    "(all singular values of the Jacobian after 10 layers of 64 units)",
    "section 5, dynamical isometry",
    Exact(1e-9),
    _isometry,
    same=("laptop", "paper"),
    test=EXPERIMENTS + "test_measure.py::test_with_orthogonal_weights_sorting_is_an_isometry_at_any_depth",
)


def _spectrum_lost(profile: str) -> Evidence:
    frame = runs.spectra.read(profile)
    kinds = frame.groupby(["activation", "weights"], sort=False)
    means = {f"{a}, {w}": sample_of(part, "mean") for (a, w), part in kinds}
    return Evidence(means, {name: mean for name, mean in means.items() if name != "MaxMin, orthogonal"})


spectrum_lost = Claim(
    "groupsort",
    "spectrum_lost",
    "At the start, ReLU or spectral normalisation lose the spectrum "
    "(mean singular value after 10 layers of 64 units below one half)",
    "section 5, dynamical isometry",
    Threshold(below=0.5),
    _spectrum_lost,
    test=EXPERIMENTS + "test_measure.py::test_relu_and_spectral_normalisation_each_lose_the_spectrum_with_depth",
)


def _by_activation(frame: pd.DataFrame, column: str) -> dict[str, Sample]:
    return {str(name): sample_of(part, column) for name, part in frame.groupby("activation", sort=False)}


def _held(frame: pd.DataFrame, columns: tuple[str, ...], by: str = "activation") -> None:
    """Refuse a comparison of groups whose runs do not have the same value in one of these columns."""
    for column in columns:
        values = {str(name): float(part[column].mean()) for name, part in frame.groupby(by)}
        held_equal(column, values, within=1e-6)


def _absolute_value(profile: str) -> Evidence:
    frame = runs.absolute.read(profile, hidden=1, activation=["MaxMin", "Abs", "FullSort"])
    found = _by_activation(frame, "estimate")
    return Evidence(found, {name: Sample(tuple(v - 1 for v in value.values)) for name, value in found.items()})


absolute_value = Claim(
    "groupsort",
    "absolute_value",
    "Sorting makes the absolute value with one hidden layer (trained, two seeds, of 1: within a thousandth)",
    "section 5, absolute value",
    Equal(1e-3),
    _absolute_value,
    test=EXPERIMENTS + "test_measure.py::test_one_hidden_layer_that_keeps_gradients_makes_the_absolute_value",
)


def _absolute_value_relu(profile: str) -> Evidence:
    frame = runs.absolute.read(profile, activation="ReLU")
    return Evidence({f"ReLU, {hidden}": sample_of(part, "estimate") for hidden, part in frame.groupby("hidden")})


absolute_value_relu = Claim(
    "groupsort",
    "absolute_value_relu",
    "ReLU stays below 1 at every depth of the absolute value (1 to 6 hidden layers, two seeds)",
    "section 5, absolute value",
    Threshold(below=1.0),
    _absolute_value_relu,
    test=EXPERIMENTS + "test_measure.py::test_relu_with_two_hidden_layers_stops_at_the_observed_ceiling",
)


def _cones(profile: str) -> Evidence:
    frame = runs.cones.read(profile)
    order = ("ReLU", "MaxMin", "GroupSort4", "FullSort")
    ours: dict[str, Sample] = {}
    tested: dict[str, Sample] = {}
    for dim, part in frame.groupby("dim"):
        _held(part, ("steps", "width"))
        found = {name: sample_of(part[part.activation == name], "estimate") for name in order}
        ours |= {f"{name}, {dim}": value for name, value in found.items()}
        for less, more in pairwise(order):
            tested[f"{more} over {less}, {dim}"] = found[more] - found[less]
    return Evidence(ours, tested)


high_dimensional_cone = Claim(
    "groupsort",
    "high_dimensional_cone",
    "In higher dimensions larger groups see more of the distance, and ReLU least (mean of two seeds, of 1)",
    "section 5, high-dimensional cone",
    Direction(),
    _cones,
    equal="steps, points of a batch, units of a layer, layers",
    test=EXPERIMENTS + "test_measure.py::test_in_16_dimensions_larger_groups_see_more_and_relu_least",
)


def _three_cones(profile: str) -> dict[str, Sample]:
    return _by_activation(runs.three_cones.read(profile), "estimate")


def _three_cones_sorting(profile: str) -> Evidence:
    return Evidence({name: value for name, value in _three_cones(profile).items() if name != "ReLU"})


three_cones = Claim(
    "groupsort",
    "three_cones",
    "Critics that keep gradients come close to the distance of three cones (above 0.9 of 1)",
    "section 5, three cones",
    Threshold(above=0.9),
    _three_cones_sorting,
    test=EXPERIMENTS + "test_measure.py::test_three_cones_are_seen_by_sorting_and_not_by_relu",
)
three_cones_relu = Claim(
    "groupsort",
    "three_cones_relu",
    "A ReLU critic does not come close to the distance of three cones (below 0.9 of 1)",
    "section 5, three cones",
    Threshold(below=0.9),
    lambda profile: Evidence({"ReLU": _three_cones(profile)["ReLU"]}),
    test=EXPERIMENTS + "test_measure.py::test_three_cones_are_seen_by_sorting_and_not_by_relu",
)


def _gan_distance(profile: str) -> Evidence:
    frame = runs.gan_distance.read(profile)
    _held(frame, ("steps", "exact"))
    found = _by_activation(frame, "estimate")
    return Evidence(found, {f"{name} over ReLU": found[name] - found["ReLU"] for name in found if name != "ReLU"})


gan_distance = Claim(
    "groupsort",
    "gan_distance",
    "Sorting critics see a larger distance between data and a GAN's samples than ReLU critics",
    "section 5, GAN distance",
    Direction(),
    _gan_distance,
    equal="steps, units, images of both kinds",
    test=EXPERIMENTS + "test_measure.py::test_the_critics_estimate_is_below_the_exact_distance_of_the_same_images",
)


def _lwgan(profile: str) -> Evidence:
    frame = runs.lwgan.read(profile, critic="Lipschitz")
    before, after = sample_of(frame, "before"), sample_of(frame, "after")
    return Evidence({"before": before, "after": after}, {"fall of the distance": before - after})


lwgan = Claim(
    "groupsort",
    "lwgan",
    "A GAN trains against a critic that is Lipschitz by construction, without clipping "
    "(exact distance of its images to images kept out, before and after training)",
    "section 5, LWGAN",
    Direction(),
    _lwgan,
    test=EXPERIMENTS + "test_measure.py::test_a_generator_comes_closer_to_its_data_against_a_lipschitz_critic",
)


def _certified_accuracy(profile: str) -> Evidence:
    frame = runs.digits.read(profile, constraint="Björck")
    ours: dict[str, Sample] = {}
    tested: dict[str, Sample] = {}
    for epsilon, part in frame.groupby("epsilon"):
        _held(part, ("proven",))
        found = _by_activation(part, "certified 0.5")
        ours |= {f"{name}, {epsilon:g}": value for name, value in found.items()}
        for name in ("MaxMin", "GroupSort4"):
            tested[f"{name} over ReLU, {epsilon:g}"] = found[name] - found["ReLU"]
    return Evidence(ours, tested)


certified_accuracy = Claim(
    "groupsort",
    "certified_accuracy",
    "With Björck's weights, sorting certifies more than ReLU at every margin (certified at radius 0.5)",
    ROBUSTNESS,
    Direction(),
    _certified_accuracy,
    equal="epochs, layers, Lipschitz constant, margin",
    test=EXPERIMENTS + "test_measure.py::test_sorting_certifies_more_of_the_digits_than_relu",
)


def _no_certificate_is_broken(profile: str) -> Evidence:
    found = {}
    for table, radii in ((runs.digits, (0.5,)), (runs.digits_inf, (0.05,)), (runs.mnist_robust, (1.58, 0.1))):
        frame = table.read(profile)
        for radius in radii:
            part = frame[frame[f"attacked {radius}"].notna()]
            attacked, certified = part[f"attacked {radius}"], part[f"certified {radius}"]
            broken = (part.clean < attacked) | (attacked < certified)
            found[f"{table.name}, radius {radius}"] = Sample(tuple(broken.astype(float)))
    return Evidence(found)


no_certificate_is_broken = Claim(
    "groupsort",
    "no_certificate_is_broken",
    "Clean accuracy is at least the accuracy under attack, which is at least the certified one, in every recorded run "
    "(share of runs where it is not)",
    ROBUSTNESS,
    Equal(0.0),
    _no_certificate_is_broken,
    same=("laptop", "paper"),
    test=EXPERIMENTS + "test_measure.py::test_every_constraint_learns_the_digits_and_certifies_some",
)


def _cost_in_accuracy(profile: str) -> Evidence:
    frame = runs.mnist.read(profile)
    frame = frame.assign(percent=100 * frame.clean)
    _held(frame, ("epochs", "lr"), by="constraint")
    by = {str(c): _by_activation(part, "percent") for c, part in frame.groupby("constraint", sort=False)}
    ours = {f"{c}, {a}": value for c, found in by.items() for a, value in found.items()}
    tested = {f"{c}, {a}": value - by["none"][a] for c in runs.CONSTANTS for a, value in by[c].items()}
    return Evidence(ours, tested)


cost_in_accuracy = Claim(
    "groupsort",
    "cost_in_accuracy",
    "The constraint costs little plain accuracy on MNIST "
    "(test accuracy, %; less than two points beside the free network of the same activation)",
    "section 5, MNIST classification",
    Threshold(above=-2.0),
    _cost_in_accuracy,
    equal="epochs, learning rate, layers, loss",
    test=EXPERIMENTS + "test_measure.py::test_the_constraint_costs_little_accuracy_on_the_digits",
)


def _robust_mnist_inf(profile: str) -> Evidence:
    frame = runs.mnist_robust.read(profile, constraint="rows after step")
    ours: dict[str, Sample] = {}
    tested: dict[str, Sample] = {}
    for epsilon, part in frame.groupby("epsilon", sort=False):
        _held(part, ("epochs", "lr", "constant"))
        for what in ("clean", "certified 0.1"):
            one = {name: sample_of(part[part.activation == name], what) for name in ("ReLU", "MaxMin")}
            ours |= {f"{name}, ε = {epsilon}, {what}": value for name, value in one.items()}
            tested[f"MaxMin over ReLU, ε = {epsilon}, {what}"] = one["MaxMin"] - one["ReLU"]
    return Evidence(ours, tested)


robust_mnist_inf = Claim(
    "groupsort",
    "robust_mnist_inf",
    "In the ∞-norm, MaxMin learns and certifies more of MNIST than ReLU (clean, and certified at 0.1)",
    ROBUSTNESS,
    Direction(),
    _robust_mnist_inf,
    equal="epochs, learning rate, layers, Lipschitz constant, margin",
    test=EXPERIMENTS + "test_measure.py::test_inf_norm_networks_are_attacked_in_the_inf_norm",
)


def _undead_units(profile: str) -> Evidence:
    frame = runs.undead.read(profile)
    frame = frame[frame.epsilon.isna()]  # all by cross-entropy
    _held(frame.fillna({"constant": 0.0}), ("epochs",), by="constant")
    free = sample_of(frame[frame.constraint == "none"], "undead")
    constrained = frame[frame.constraint != "none"].groupby("constant")
    ours = {f"constrained, K = {K:g}": sample_of(part, "undead") for K, part in constrained}
    return Evidence(ours | {"free": free}, {f"{name}, over free": value - free for name, value in ours.items()})


undead_units = Claim(
    "groupsort",
    "undead_units",
    "Under the constraint more ReLU units are nearly always on "
    "(share of units on for 95 % of the test images, K = 1 and K = 10, beside a free network)",
    "section 5, undead units",
    Direction(),
    _undead_units,
    equal="epochs, loss, layers",
    test=EXPERIMENTS + "test_measure.py::test_a_tight_constraint_keeps_relu_units_on",
)
small_data = Claim(
    "groupsort",
    "small_data",
    "Sorting with orthonormal weights helps where training data are few (LeNet on 30 to 100 images a class)",
    "section 5, small data",
    Direction(),
    missing="a LeNet with these layers, trained on 30 to 100 images a class",
)
