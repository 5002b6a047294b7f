"""Certificates hold, are as large as they can be, and are refused where a layer breaks its promise."""

import math

import pandas as pd
import pytest
import torch
from torch import nn

from nnlib.lipschitz import (
    Certificate,
    CertificateBroken,
    MaxMin,
    Normalize,
    NotCertifiable,
    OrthogonalLinear,
    accuracies,
    certified_radius,
    certify,
    follow,
    margins,
    pgd,
)
from nnlib.lipschitz.rounding import unit_roundoff

inf = math.inf


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(*, classes=3, gain=1.0, steps=None, dtype=torch.float64):
    sizes = {"dtype": dtype, "steps": steps}
    return nn.Sequential(
        OrthogonalLinear(4, 16, seed=0, **sizes),
        MaxMin(),
        OrthogonalLinear(16, 16, seed=1, gain=gain, **sizes),
        MaxMin(),
        OrthogonalLinear(16, classes, seed=2, **sizes),
    )


def rounding_error(model, x, reach):
    return follow(model, x=x).rounding(reach, unit_roundoff(x))


def split(model, n=50):
    x = torch.rand(n, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    with torch.no_grad():
        logits = model(x.to(next(model.parameters())))
    y = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).long()
    return x, y


def linear(weight, bias=None):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def distance_of_linear(weight, x, y, p):
    """The exact p-norm distance from x to the nearest point where another class of z = W x is as large."""
    z = weight @ x
    dual = {1: inf, 2: 2, inf: 1}[p]
    others = [j for j in range(len(weight)) if j != y]
    return min(((z[y] - z[j]) / torch.linalg.vector_norm(weight[y] - weight[j], dual)).item() for j in others)


@pytest.mark.parametrize("p", [1, 2, inf])
def test_pairs_of_a_linear_classifier_are_certified_up_to_the_exact_distance(p):
    weight = draw(4, 3)
    x = draw(30, 3, seed=1)
    y = (x @ weight.T).argmax(1)
    # alone, the last layer is the whole network; for the inf-norm and the 1-norm its rows are bounded
    model = _Rows(weight, p)
    certificate = certify(model, (x, y), p, head="pairs")
    exact = torch.tensor([distance_of_linear(weight, a, b, p) for a, b in zip(x, y, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(certificate.radius, exact, rtol=1e-9, atol=1e-12)


class _Rows(nn.Module):
    """A fixed matrix, bounded row by row from the p-norm."""

    def __init__(self, weight, p):
        super().__init__()
        self.weight, self.norms = nn.Parameter(weight), (p, inf)

    def forward(self, x):
        return x @ self.weight.T

    def lipschitz_bound(self):
        dual = {1: inf, 2: 2, inf: 1}[self.norms[0]]
        return torch.linalg.vector_norm(self.weight, dual, dim=1).max().item(), 0.0


def test_a_joint_bound_gives_sqrt_2_more_than_bounds_on_each_logit():
    logits, y = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([0])
    joint, single = (certified_radius(logits, y, 1.0, q=q).item() for q in (2, inf))
    assert joint == pytest.approx(1 / math.sqrt(2))
    assert single == pytest.approx(1 / 2)


def test_rows_of_norm_one_are_not_jointly_1_lipschitz():
    # two opposite rows: each logit has slope 1, their difference has slope 2; the joint factor would certify too much
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    x, y = torch.tensor([[0.3, 0.0]], dtype=torch.float64), torch.tensor([0])
    truth = 0.3
    wrong = certified_radius(x @ weight.T, y, 1.0, q=2).item()
    right = certify(_Rows(weight, 2), (x, y), 2).radius.item()
    assert wrong > truth * 1.4
    assert right == pytest.approx(truth, rel=1e-9)
    # a layer that is bounded jointly has the true norm sqrt(2) of this matrix, and is right as well
    assert certify(linear(weight), (x, y)).radius.item() == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("gain", [1.0, 3.0])
@pytest.mark.parametrize("head", ["joint", "rows", "pairs"])
def test_heads_agree_in_order(head, gain):
    model = network(gain=gain)
    radius = {name: certify(model, split(model), head=name).radius for name in ("joint", "rows", "pairs")}
    assert (radius[head] <= radius["pairs"] + 1e-12).all()
    # orthonormal rows: each difference has norm exactly sqrt(2)
    torch.testing.assert_close(radius["joint"], radius["pairs"])
    torch.testing.assert_close(radius["rows"] * math.sqrt(2), radius["joint"])


def test_a_single_logit_is_certified_by_its_size():
    model = network(classes=1)
    x, y = split(model)
    certificate = certify(model, (x, y))
    torch.testing.assert_close(certificate.radius, model(x).abs()[:, 0].detach())
    assert certificate.clean == 1
    assert (certify(model, (x, 1 - y)).radius == 0).all()


def test_a_wrong_prediction_has_radius_zero():
    model = network()
    x, y = split(model)
    certificate = certify(model, (x, (y + 1) % 3))
    assert (certificate.radius == 0).all()
    assert certificate.accuracy(0.01) == certificate.clean == 0


@pytest.mark.parametrize("p", [2, inf])
def test_attacks_at_the_certified_radius_fail_and_beyond_the_boundary_succeed(p):
    weight = draw(2, 4)  # of three classes, the attack may take the wrong one for the nearest
    x = 0.5 + 0.1 * draw(20, 4, seed=1)
    y = (x @ weight.T).argmax(1)
    model = _Rows(weight, p)
    exact = certify(model, (x, y), p, head="pairs").radius
    for factor, survives in ((0.999, True), (1.1, False)):
        adversarial = pgd(model, x, y, factor * exact, p, steps=100, clamp=None)
        distance = torch.linalg.vector_norm(adversarial - x, p, dim=1)
        assert (distance <= factor * exact).all()
        assert ((model(adversarial).argmax(1) == y) == survives).all()


@pytest.mark.parametrize("p", [2, inf])
def test_an_attack_stays_in_the_box_and_the_ball(p):
    model = network().float()
    x, y = split(model)
    x = x.float()
    adversarial = pgd(model, x, y, 0.5, p, steps=10)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert (torch.linalg.vector_norm((adversarial - x).double(), p, dim=1) <= 0.5 + 1e-6).all()
    with pytest.raises(ValueError, match="must lie in the box"):
        pgd(model, 2 * x, y, 0.5, p)
    with pytest.raises(ValueError, match="p must be 2 or inf: got 1"):
        pgd(model, x, y, 0.5, 1)


def independent_attack(model, x, y, epsilon, p, seed):
    """Another hand's PGD: cross-entropy, five random starts of a hundred steps."""
    generator, left = torch.Generator().manual_seed(seed), torch.ones(len(x), dtype=torch.bool)
    for _ in range(5):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        sizes = torch.rand(len(x), 1, generator=generator, dtype=x.dtype)
        delta = epsilon * (noise.sign() * sizes if p == inf else sizes * nn.functional.normalize(noise, dim=1))
        for _ in range(100):
            delta = delta.detach().requires_grad_()
            logits = model((x + delta).clamp(0, 1))
            left &= logits.argmax(1) == y
            (slope,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y, reduction="sum"), delta)
            step = slope.sign() if p == inf else nn.functional.normalize(slope, dim=1)
            delta = delta + 0.025 * epsilon * step
            size = torch.linalg.vector_norm(delta.detach(), 2, dim=1, keepdim=True).clamp(min=1e-12)
            delta = delta.clamp(-epsilon, epsilon) if p == inf else delta * (epsilon / size).clamp(max=1)
    return left


@pytest.mark.parametrize("p", [2, inf])
@pytest.mark.parametrize("free", [False, True])
def test_no_independent_attack_is_stronger(p, free):
    """Breaks with one start, or with one loss, on networks without a constraint."""
    torch.manual_seed(3)
    model = network(gain=4.0)
    if free:
        model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
    model.requires_grad_(False)
    x, y = split(model, 60)
    for epsilon in (0.05, 0.15):
        ours = model(pgd(model, x, y, epsilon, p)).argmax(1) == y
        theirs = independent_attack(model, x, y, epsilon, p, seed=0)
        assert ours.sum() <= theirs.sum()


def test_an_attack_may_start_at_x_alone_or_in_the_ball_alone():
    model = network()
    x, y = split(model)
    own = pgd(model, x, y, 1e-9, restarts=0, losses=("margin",), steps=1)
    assert (own - x).abs().max() <= 1e-9
    with torch.inference_mode():
        assert torch.equal(pgd(model, x, y, 0.1, steps=3), pgd(model, x, y, 0.1, steps=3))
    for options in ({"steps": 0}, {"from_x": False, "restarts": 0}, {"losses": ()}, {"losses": ("hinge",)}):
        with pytest.raises(ValueError, match="must be"):
            pgd(model, x, y, 0.1, **options)
    for epsilon in (math.nan, -0.1, math.inf, torch.ones(3)):
        with pytest.raises(ValueError, match="epsilon must be one number or 50, one a point, at least 0 and finite"):
            pgd(model, x, y, epsilon)
    for box in ((0.0,), (1.0, 0.0), (0.0, "a")):
        with pytest.raises(ValueError, match="clamp must be None, or the lowest and the highest number"):
            pgd(model, x, y, 0.1, clamp=box)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_certificate_of_other_points_is_refused():
    model = network()
    x, y = split(model)
    with pytest.raises(ValueError, match=r"certificate must be of this split's 10 points: got 50"):
        accuracies(model, (x[:10], y[:10]), certify(model, (x, y)), [0.1])


def test_clean_is_at_least_attacked_is_at_least_certified():
    model = network()
    points = split(model)
    frame = pd.DataFrame(
        accuracies(model, points, certify(model, points), [0.0, 0.02, 0.05, 0.1, 0.3], restarts=1, steps=40)
    )
    assert (frame.clean >= frame.attacked).all()
    assert (frame.attacked >= frame.certified).all()
    assert frame.certified.iloc[-1] < frame.attacked.iloc[1]


def test_a_false_certificate_is_found_out_by_the_attack():
    model = network()
    points = split(model)
    honest = certify(model, points)
    false = Certificate(100 * honest.radius, honest.correct, honest.constant / 100, 0.0, 2)
    with pytest.raises(CertificateBroken, match="changed certified points"):
        accuracies(model, points, false, [0.5])


class Scaled(nn.Module):
    """A layer whose weight is 1.05 times what it promises."""

    norms = (2, 2)

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    @property
    def weight(self):
        return 1.05 * self.layer.weight

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.layer.bias)

    def lipschitz_bound(self):
        return OrthogonalLinear.lipschitz_bound(self)

    gain = 1.0


def test_a_layer_scaled_by_5_percent_raises_the_constant_and_is_refused_where_strict():
    model = network()
    points = split(model)
    plain = certify(model, points)
    model[2] = Scaled(model[2])
    with pytest.raises(NotCertifiable, match=r"layer 2 \(Scaled\) is 0\.41 from its constraint"):
        certify(model, points)
    raised = certify(model, points, max_residual=1.0)
    assert raised.constant / plain.constant == pytest.approx(1.05, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2])
def test_an_unconverged_layer_is_refused(steps):
    model = network(steps=steps)
    with torch.no_grad():
        model[2].raw.add_(0.3 * draw(16, 16))
    points = split(model)
    with pytest.raises(NotCertifiable, match=r"layer 2 \(OrthogonalLinear\)"):
        certify(model, points)
    model[2].steps = None
    assert certify(model, points).residual < 1e-12


def test_a_layer_that_is_not_finite_is_refused():
    model = network()
    points = split(model)
    with torch.no_grad():
        model[0].raw[0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        certify(model, points)


def test_the_scaling_of_the_input_divides_the_radius():
    model = network()
    x, y = split(model)
    plain = certify(model, (x, y))
    scaled = nn.Sequential(Normalize(0.0, 0.25), *model)
    certificate = certify(scaled, (x / 4, y))
    torch.testing.assert_close(certificate.radius, plain.radius / 4)
    assert certificate.constant == pytest.approx(4 * plain.constant)


def test_a_network_of_the_2_norm_also_certifies_the_1_norm_and_refuses_the_inf_norm():
    model = network()
    points = split(model)
    torch.testing.assert_close(certify(model, points, 1).radius, certify(model, points, 2).radius)
    assert certify(model, points, 1).p == 1
    with pytest.raises(ValueError, match=r"layer 0 .* is bounded from the 2-norm, but it is given the inf-norm"):
        certify(model, points, inf)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_rounding_error_is_within_its_bound_and_shrinks_the_radius(classes):
    wide = network(classes=classes).eval()
    x, y = split(wide)
    x = 100 * x
    narrow = network(classes=classes).float().eval()
    exact = narrow[0](x.float())  # fills the caches
    # the same float32 weights, evaluated in float64
    exact = x.float().double()
    for layer in narrow:
        exact = exact.clone() if exact is None else exact
        weight = getattr(layer, "weight", None)
        exact = layer(exact) if weight is None else exact @ weight.double().T + layer.bias.double()
    error = (narrow(x.float()).double() - exact).norm(dim=1)
    bound = rounding_error(narrow, x.float(), torch.zeros(len(x), dtype=torch.float64))
    assert (error <= bound).all()
    assert (error > 0).any()
    assert (bound < 1e-2).all()
    logits = narrow(x.float()).detach()
    without = certified_radius(logits, y, 1.0, q=2)
    assert (certified_radius(logits, y, 1.0, q=2, rounding=bound) <= without).all()


@pytest.mark.parametrize("gain", [1.0, 8.0])
def test_the_rounding_error_is_bounded_in_the_whole_ball_and_not_at_its_centre_alone(gain):
    """Breaks without the ball: at 0, with biases of 0, nothing is rounded, and next to it something is."""
    narrow = network(gain=gain, dtype=torch.float32).eval()
    reach = torch.linspace(1, 50, 50, dtype=torch.float64)
    x = reach[:, None] * nn.functional.normalize(draw(50, 4, seed=1), dim=1)
    exact, rounded = x.float().double(), narrow(x.float()).double()
    for layer in narrow:  # the same float32 weights, evaluated in float64
        weight = getattr(layer, "weight", None)
        exact = layer(exact) if weight is None else exact @ weight.double().T
    error = (rounded - exact).norm(dim=1)
    centre = torch.zeros(50, 4)
    assert (error > 0).all()
    assert (error <= rounding_error(narrow, centre, reach)).all()
    assert (rounding_error(narrow, centre, torch.zeros(50, dtype=torch.float64)) < 1e-30).all()
    # What is added in the second layer is of activations as large as the first one's bound times the reach.
    unit = torch.finfo(torch.float32).eps / 2
    wide = nn.Sequential(OrthogonalLinear(4, 4, gain=gain, dtype=torch.float32), nn.Linear(4, 1, bias=False)).eval()
    with torch.no_grad():
        wide[1].weight.fill_(1.0)
    # Each layer adds (4 products + 2) u ‖|W|‖ ‖a‖; the second, of norm 2, doubles what the first has added.
    first = torch.linalg.matrix_norm(wide[0].weight.double().abs(), 2)
    last = rounding_error(wide, centre, reach)
    assert (last >= 6 * unit * 2 * (first + gain) * reach * (1 - 1e-5)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: certified_radius(torch.zeros(1, 2), torch.tensor([0]), 0.0), "constant must be a number in"),
        (lambda: certified_radius(torch.zeros(1, 2), torch.tensor([0]), math.nan), "constant must be a number in"),
        (lambda: certified_radius(torch.zeros(1, 2), torch.tensor([0]), 1.0, q=3), "q must be 1, 2 or inf: got 3"),
        (lambda: certified_radius(torch.full((1, 2), math.nan), torch.tensor([0]), 1.0), "logits must hold finite"),
        (lambda: certified_radius(torch.zeros(1, 2), torch.tensor([2]), 1.0), "y must hold labels from 0 to 1: got 2"),
        (
            lambda: certified_radius(torch.zeros(1, 2), torch.zeros(2).long(), 1.0),
            "y must hold a label for each row of l",
        ),
        (lambda: margins(torch.zeros(1, 1), torch.tensor([0])), "logits must be of at least two classes"),
        (lambda: certify(network(), split(network()), head="other"), "head must be one of joint, rows, pairs"),
        (lambda: follow(network()).rounding(torch.zeros(1), 0.0), "give follow an x"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(2).long(), r"split must hold as many labels as inputs, 3: got shape \(2,\)"),
        (torch.zeros(3, 4), torch.full((3,), 7), "y must hold labels from 0 to 2: got 7"),
        (torch.zeros(3, 4), torch.zeros(3), "y must be a tensor of whole numbers"),
        (torch.zeros(3, 4), [0, 1, 2], "split must be two tensors, inputs and labels"),
        (torch.full((3, 4), math.nan), torch.zeros(3).long(), "inputs of split must hold finite numbers: got nan"),
        (
            torch.zeros(0, 4),
            torch.zeros(0).long(),
            r"inputs of split must have shape \(n, inputs, ...\), no axis empty",
        ),
        (torch.zeros(3, 5), torch.zeros(3).long(), r"x must have shape \(..., 4\): got \(3, 5\)"),
    ],
)
def test_points_that_are_none_are_refused_whoever_asks(x, y, message):
    model = network()
    with pytest.raises((TypeError, ValueError), match=message):
        certify(model, (x, y))
    sound = certify(model, split(model, 3))
    with pytest.raises((TypeError, ValueError), match=message):
        accuracies(model, (x, y), sound, [0.0])


def test_pixels_may_be_whole_numbers():
    model = network()
    pixels = torch.randint(0, 2, (5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    y = torch.zeros(5, dtype=torch.int32)
    assert torch.equal(certify(model, (pixels, y)).radius, certify(model, (pixels.double(), y)).radius)
