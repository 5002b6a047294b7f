"""Networks as users write them, and every public certificate: right, or refused by name, and nothing is changed."""

import copy
import math
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from nnlib.bcop import BCOPConv, LipschitzCNN
from nnlib.groupsort import LipschitzMLP, SpectralLinear
from nnlib.lipschitz import (
    MaxMin,
    Normalize,
    NotCertifiable,
    OrthogonalLinear,
    Upsample,
    certify,
    export,
    layer_bounds,
    lipschitz_constant,
    lipschitz_report,
    pgd,
)
from tests.oracles.random_networks import Called, Does, Doubled, FiveTimes, Residual, Standardised, steepest

F64 = torch.float64
inf = math.inf


def orthogonal(n, m, gain=1.0, seed=0):
    return OrthogonalLinear(n, m, gain=gain, seed=seed, bias=False)


def linear(norm, n=4):
    """A square layer of this spectral norm."""
    layer = nn.Linear(n, n)
    with torch.no_grad():
        layer.weight.mul_(norm / torch.linalg.matrix_norm(layer.weight, 2))
    return layer


def with_hook(layer, pre=False):
    if pre:
        layer.register_forward_pre_hook(lambda module, args: (10 * args[0],))
    else:
        layer.register_forward_hook(lambda module, args, out: 10 * out)
    return layer


def with_forward(layer):
    kept = layer.forward
    layer.forward = lambda x: 7 * kept(x)
    return layer


def circular(c_in, c_out, k, padding, stride=1):
    return nn.Conv2d(c_in, c_out, k, stride, padding, padding_mode="circular")


class LoRA(nn.Linear):
    def __init__(self, n, m):
        super().__init__(n, m)
        self.a, self.b = nn.Parameter(torch.randn(1, n)), nn.Parameter(torch.randn(m, 1))

    def forward(self, x):
        return super().forward(x) + F.linear(F.linear(x, self.a), self.b)


class Keyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = linear(2.0), orthogonal(4, 3)

    def forward(self, x):
        return self.second(x=torch.relu(input=self.first(input=x)))


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.alpha = linear(1.0), nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return x + torch.sigmoid(self.alpha) * self.layer(x)


class Counts(nn.Module):
    """Another function from the second call on."""

    def __init__(self):
        super().__init__()
        self.calls = [0]

    def forward(self, x):
        self.calls[0] += 1
        return x * self.calls[0]


SHARED = linear(2.0)
BLOCK = nn.Sequential(linear(2.0), nn.Tanh())
TANH = nn.Tanh()

BOUNDED = {  # a network, and the shape of one input
    "residual": lambda: (nn.Sequential(Residual(orthogonal(4, 4)), orthogonal(4, 3)), (4,)),
    "residual as a model": lambda: (Residual(orthogonal(4, 4), nn.ReLU()), (4,)),
    "residual of residuals": lambda: (Residual(Residual(orthogonal(4, 4)), orthogonal(4, 4, seed=1)), (4,)),
    "concatenation": lambda: (Does(lambda s, x: torch.cat([x, s.parts[0](x)], 1), orthogonal(4, 4)), (4,)),
    "sum of itself": lambda: (Does(lambda s, x: s.parts[0](x) + s.parts[0](x), orthogonal(4, 4)), (4,)),
    "scaled": lambda: (Does(lambda s, x: 2 * s.parts[0](x) / 0.5, orthogonal(4, 4)), (4,)),
    "gate of a parameter": lambda: (Gate(), (4,)),
    "same layer three times": lambda: (nn.Sequential(SHARED, SHARED, SHARED), (4,)),
    "list of one layer": lambda: (nn.Sequential(*[orthogonal(4, 4, gain=3.0)] * 2), (4,)),
    "nested block twice": lambda: (nn.Sequential(BLOCK, nn.Sequential(BLOCK)), (4,)),
    "activation used twice": lambda: (nn.Sequential(linear(2.0), TANH, linear(2.0), TANH, linear(1.0)), (4,)),
    "upsampled twice": lambda: (nn.Sequential(*[Upsample(2)] * 2), (1, 2, 2)),
    "normalised twice": lambda: (nn.Sequential(*[Normalize(0.0, 0.5)] * 2), (1, 2, 2)),
    "subclass": lambda: (nn.Sequential(FiveTimes(4, 3)), (4,)),
    "__call__ of a subclass": lambda: (nn.Sequential(Called(4, 3)), (4,)),
    "low-rank adaptation": lambda: (nn.Sequential(LoRA(4, 3)), (4,)),
    "standardised weights": lambda: (nn.Sequential(Standardised(2, 3, 3, padding=1)), (2, 4, 4)),
    "spectral norm": lambda: (nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 4))), (4,)),
    "orthogonal parametrization": lambda: (nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4))), (4,)),
    "weight norm": lambda: (nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4))), (4,)),
    "pruned for good": lambda: (
        prune.remove(prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5), "weight"),
        (4,),
    ),
    "called by keyword": lambda: (Keyword(), (4,)),
    "in place": lambda: (nn.Sequential(linear(2.0), nn.ReLU(inplace=True), linear(2.0)), (4,)),
    "in place on a branch": lambda: (Does(lambda s, x: s.parts[0](x).add_(x), orthogonal(4, 4)), (4,)),
    "sequence": lambda: (nn.Sequential(linear(2.0), nn.ReLU(), linear(1.5)), (3, 4)),
    "sequence sorted": lambda: (nn.Sequential(orthogonal(4, 4), MaxMin(), orthogonal(4, 4)), (2, 4)),
    "circular 1x1, 2 around": lambda: (circular(1, 1, 1, 2), (1, 4, 4)),
    "circular 1x1, 3 around": lambda: (circular(1, 1, 1, 3), (1, 4, 4)),
    "circular 2x2, 1 around": lambda: (circular(1, 1, 2, 1), (1, 3, 4)),
    "circular 4x4, 2 around, stride 2": lambda: (circular(1, 2, 4, 2, 2), (1, 4, 4)),
    "circular 3x3, 2 around": lambda: (circular(1, 1, 3, 2), (1, 2, 2)),
    "circular, stride 2, odd image": lambda: (circular(1, 2, 3, 1, 2), (1, 5, 5)),
    "circular, stride 3": lambda: (circular(1, 2, 2, (1, 2), 3), (1, 4, 5)),
    "strided": lambda: (nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 5, 4)),
    "padded alike": lambda: (nn.Conv2d(2, 3, (2, 3), padding="same"), (2, 4, 4)),
    "groups": lambda: (nn.Conv2d(4, 4, 3, groups=2, padding=1), (4, 3, 3)),
    "depthwise": lambda: (nn.Conv2d(3, 3, 3, groups=3, padding=2, dilation=2), (3, 4, 4)),
    "grouped orthogonal": lambda: (BCOPConv(4, 4, 3, groups=2, dilation=2), (4, 5, 5)),
    "strided orthogonal": lambda: (BCOPConv(2, 8, 3, stride=2), (2, 6, 6)),
    "coupling": lambda: (
        Does(lambda s, x: torch.cat([x[:, :2], x[:, 2:] + s.parts[0](x[:, :2])], 1), nn.Linear(2, 2)),
        (4,),
    ),
    "heads": lambda: (Does(lambda s, x: x.view(x.shape[0], 2, 2).transpose(1, 2).flatten(1)), (4,)),
}

REFUSED = {  # a network, the shape of one input, and what the refusal says
    "hook": lambda: (nn.Sequential(with_hook(orthogonal(4, 4))), (4,), "layer 0: .*OrthogonalLinear.* carries a hook"),
    "pre-hook": lambda: (nn.Sequential(with_hook(nn.ReLU(), pre=True)), (4,), "layer 0: .*ReLU.* carries a hook"),
    "hook on a container": lambda: (
        nn.Sequential(with_hook(nn.Sequential(orthogonal(4, 4)))),
        (4,),
        "layer 0: .*Sequential.* carries a hook",
    ),
    "hook on the model": lambda: (with_hook(nn.Sequential(orthogonal(4, 4))), (4,), "layer model: .* carries a hook"),
    "forward of an instance": lambda: (nn.Sequential(with_forward(orthogonal(4, 4))), (4,), "a forward of its own"),
    "forward of a container": lambda: (with_forward(nn.Sequential(orthogonal(4, 4))), (4,), "a forward of its own"),
    "old spectral norm": lambda: (nn.Sequential(spectral_norm(nn.Linear(4, 4))), (4,), "carries a hook"),
    "pruned by a mask": lambda: (
        nn.Sequential(prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5)),
        (4,),
        "carries a hook",
    ),
    "promise of a parent": lambda: (nn.Sequential(Doubled(4, 4)), (4,), "Doubled.* has a forward of its own"),
    "batch norm": lambda: (nn.Sequential(nn.BatchNorm1d(4)), (4,), "layer 0: .* for BatchNorm1d"),
    "attention": lambda: (
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        (3, 4),
        "layer model: .* for TransformerEncoderLayer",
    ),
    "self-attention": lambda: (Does(lambda s, x: torch.softmax(x @ x.mT, 2) @ x), (3, 4), "layer getattr in model"),
    "gate": lambda: (Does(lambda s, x: x * torch.sigmoid(x)), (4,), "a product of two values"),
    "square": lambda: (Does(lambda s, x: x**2), (4,), "pow"),
    "exponential": lambda: (nn.Sequential(Does(lambda s, x: x.exp())), (4,), "layer exp in 0: .* for exp"),
    "broadcast sum": lambda: (Does(lambda s, x: x + s.parts[0](x), nn.Linear(4, 1)), (4,), "repeats entries"),
    "entries picked twice": lambda: (Does(lambda s, x: x[:, [0, 0, 1]]), (4,), "could pick an entry twice"),
    "mean over the batch": lambda: (Does(lambda s, x: x - x.mean(0)), (4,), "no Lipschitz bound is known for mean"),
    "rows mixed": lambda: (Does(lambda s, x: x.flip(0)), (4,), "flip"),
    "axes of the batch": lambda: (Does(lambda s, x: x.t()), (4,), "no Lipschitz bound is known for t"),
    "scaled by the batch": lambda: (Does(lambda s, x: x * x.size(0)), (4,), "layer mul"),
    "flattened with the batch": lambda: (nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 4))), (4,), "axis 0"),
    "drawn": lambda: (Does(lambda s, x: x * torch.rand(())), (4,), "computes something else each time"),
    "drawn by Python": lambda: (Does(lambda s, x: x * random.random()), (4,), "computes something else each time"),
    "counted": lambda: (Counts(), (4,), "computes something else each time"),
    "by its values": lambda: (Does(lambda s, x: x if x.sum() > 0 else 9 * x), (4,), "can't be followed"),
    "changed in place and used": lambda: (
        Does(lambda s, x: (lambda out: (out.view(x.size(0), -1), out.mul_(3))[0])(1.0 * x)),
        (4,),
        "used after it was changed in place",
    ),
    "input changed in place": lambda: (nn.Sequential(nn.ReLU(inplace=True)), (4,), "the network's input in place"),
    "tuple": lambda: (Does(lambda s, x: (x, x)), (4,), "must return one tensor|must give a row"),
    "dict": lambda: (Does(lambda s, x: {"logits": x}), (4,), "must return one tensor|must give a row"),
    "scripted": lambda: (torch.jit.script(nn.Sequential(nn.ReLU())), (4,), "layer model|can't be followed"),
    "compiled": lambda: (torch.compile(nn.Sequential(nn.Linear(4, 4)), backend="eager"), (4,), "layer model|followed"),
    "autocast within": lambda: (Does(_under_autocast, linear(1.0)), (4,), "runs under autocast"),
    "half inside": lambda: (
        Does(lambda s, x: x.half().to(torch.float64)),
        (4,),
        "no Lipschitz bound is known for half",
    ),
    "reflecting": lambda: (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), (1, 4, 4), "for Conv2d"),
    "pooling": lambda: (nn.Sequential(nn.MaxPool2d(2)), (1, 4, 4), "layer 0: .* for MaxPool2d"),
    "image without channels": lambda: (nn.Conv2d(2, 2, 1), (3, 3), "is given the shape|expected input"),
    "several means of one channel": lambda: (Normalize([0.1, 0.2], [1.0, 1.0]), (1, 2, 2), "must have shape"),
    "cubes": lambda: (Upsample(2), (1, 2, 2, 2), "must have shape"),
    "not finite": lambda: (
        nn.Sequential(_filled(nn.Linear(4, 4), math.nan)),
        (4,),
        "layer 0: weight must hold finite numbers",
    ),
    "zero for spectral norm": lambda: (nn.Sequential(_filled(SpectralLinear(4, 4), 0.0)), (4,), "layer 0: "),
}


def _under_autocast(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        return self.parts[0](x)


def _filled(layer, value):
    with torch.no_grad():
        next(layer.parameters()).fill_(value)
    return layer


ENTRIES = {
    "constant": lambda model, x, y: lipschitz_constant(model, shape=x.shape[1:]),
    "report": lambda model, x, y: lipschitz_report(model, x, points=4, steps=3).upper,
    "certify": lambda model, x, y: certify(model, (x, y), max_residual=inf).constant,
    "bounds": lambda model, x, y: layer_bounds(model, shape=x.shape[1:]) and inf,
}


def attributes(model):
    """All but weights that are kept until their parameters change."""
    return {
        name: {key: id(value) for key, value in vars(module).items() if key not in ("_cached", "_told")}
        for name, module in model.named_modules()
    }


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("entry", list(ENTRIES))
@pytest.mark.parametrize("situation", list(BOUNDED))
def test_what_a_user_builds_is_bounded_from_above_by_every_entry(situation, entry):
    """Breaks if a class is believed instead of what is computed: the slope found is then above the bound."""
    torch.manual_seed(1)
    model, shape = BOUNDED[situation]()
    model = model.double()
    model.train()
    x = torch.randn(6, *shape, dtype=F64)
    flat = nn.Sequential(model, nn.Flatten())
    with torch.no_grad():
        y = copy.deepcopy(flat).eval()(1.0 * x).argmax(1).clamp(max=1)
    before = copy.deepcopy(model.state_dict()), attributes(model)
    single = flat.eval()(1.0 * x).shape[1] == 1
    model.train()
    bound = ENTRIES[entry](flat if entry == "certify" else model, x, y if not single else y * 0)
    assert model.training and all(module.training for module in model.modules())
    assert attributes(model) == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in model.state_dict().items())
    assert steepest(model.eval(), shape, seed=0) <= bound * (1 + 1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("entry", list(ENTRIES))
@pytest.mark.parametrize("situation", list(REFUSED))
def test_what_has_no_proven_bound_is_refused_by_name_by_every_entry(situation, entry):
    """Breaks if something that may compute anything counts as what its class says."""
    model, shape, message = REFUSED[situation]()
    model = model.double()
    x, y = torch.rand(6, *shape, dtype=F64), torch.zeros(6, dtype=torch.long)
    kept = x.clone()
    with pytest.raises(ValueError, match=message):
        ENTRIES[entry](model, x, y)
    assert torch.equal(x, kept)


EXACT = [
    ("same layer three times", 8.0),
    ("list of one layer", 9.0),
    ("nested block twice", 4.0),
    ("upsampled twice", 4.0),
    ("normalised twice", 4.0),
    ("residual", 2.0),
    ("residual of residuals", 3.0),
    ("concatenation", math.sqrt(2)),
    ("sum of itself", 2.0),
    ("scaled", 4.0),
]


@pytest.mark.parametrize(("situation", "constant"), EXACT)
def test_constants_that_are_known_are_met(situation, constant):
    """A layer counts as often as it runs; branches add, and stand side by side as the root of squares."""
    model, shape = BOUNDED[situation]()
    assert lipschitz_constant(model.double(), shape=shape) == pytest.approx(constant, rel=1e-6)


def test_a_residual_sum_halves_the_certificate():
    """The network of a bug report: x + x, whose other class begins 0.71 away and not 1.41."""
    model = nn.Sequential(Residual(orthogonal(2, 2)), orthogonal(2, 2)).double().eval()
    with torch.no_grad():
        model[0][0].raw.copy_(torch.eye(2))
        model[1].raw.copy_(torch.eye(2))
    x = torch.tensor([[1.0, 0.0]], dtype=F64)
    found = certify(model, (x, model(x).argmax(1)))
    assert found.constant == pytest.approx(2) and found.radius.item() == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("size", [3, 4, 5, 7])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_one_bound_of_a_circular_convolution_holds_for_every_image(k, padding, stride, size):
    """Without a shape the bound is for all images; breaks if padding beyond one turn, or a stride, is taken for one."""
    torch.manual_seed(k)
    layer = circular(1, 2, k, padding, stride).double()
    slope = steepest(layer, (1, size, size), seed=0, points=2, steps=0)
    assert slope <= lipschitz_constant(layer, shape=(1, size, size)) * (1 + 1e-12)
    assert lipschitz_constant(layer, shape=(1, size, size)) <= lipschitz_constant(layer) * (1 + 1e-12)


def test_a_sum_of_unknown_shapes_asks_for_the_shape():
    with pytest.raises(ValueError, match="give shape="):
        lipschitz_constant(Residual(orthogonal(4, 4)))


def test_norms_that_differ_are_not_added():
    from nnlib.groupsort import RowLinear

    model = Does(lambda s, x: x + s.parts[0](x), RowLinear(4, 4, p=2))
    with pytest.raises(ValueError, match="joins tensors of bounds in the norms"):
        lipschitz_constant(model, shape=(4,))


@pytest.mark.parametrize("p", [1, 2, inf])
def test_branches_are_joined_in_the_norm_of_the_bound(p):
    """Breaks if the root of squares is used in the inf-norm, where the larger counts, or in the 1-norm."""
    torch.manual_seed(0)
    a, b = nn.Linear(3, 4).double(), nn.Linear(3, 4).double()
    model = Does(lambda s, x: torch.cat([s.parts[0](x), s.parts[1](x)], 1), a, b)
    sizes = [torch.linalg.matrix_norm(layer.weight.detach(), p) for layer in (a, b)]
    expected = torch.linalg.vector_norm(torch.stack(sizes), p).item()
    assert lipschitz_constant(model, p, shape=(3,)) == pytest.approx(expected)
    joint = torch.linalg.matrix_norm(torch.cat([a.weight, b.weight]).detach(), p).item()
    assert joint <= expected * (1 + 1e-12)


@pytest.mark.parametrize("middle", [math.nan, inf])
def test_a_residual_that_is_not_a_number_is_refused_wherever_it_stands(middle):
    class Strange(nn.Identity):
        norms = None

        def lipschitz_bound(self):
            return 1.0, middle

        def forward(self, x):
            return x

    points = torch.rand(3, 4, dtype=F64), torch.tensor([0, 1, 0])
    for place in range(3):
        layers = [orthogonal(4, 4), nn.ReLU(), orthogonal(4, 4)]
        layers.insert(place, Strange())
        with pytest.raises(ValueError, match=f"layer {place}: .*Strange"):
            certify(nn.Sequential(*layers).double(), points, max_residual=inf)


@pytest.mark.parametrize(("dtype", "n"), [(torch.bfloat16, 254), (torch.bfloat16, 600), (torch.float16, 2046)])
def test_sums_too_long_for_their_precision_are_refused(dtype, n):
    """n u >= 1: the formula for the rounding error changes its sign there, and radii would be far too large."""
    model = nn.Sequential(nn.Linear(n, 3), nn.ReLU()).to(dtype)
    with pytest.raises(NotCertifiable, match=rf"layer 0: sums of {n} products can't be bounded"):
        certify(model, (torch.rand(2, n), torch.tensor([0, 1])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_certifies_less_than_float64_never_more(dtype):
    """On the same weights and points; breaks if rounding isn't taken off, or that of the inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)
    wide = copy.deepcopy(model).double()
    x = torch.rand(50, 12, dtype=F64)
    y = wide(x).argmax(1)
    assert (certify(model, (x, y)).radius <= certify(wide, (x, y)).radius + 1e-12).all()
    assert certify(model, (100 * x, wide(100 * x).argmax(1))).radius.max() >= 0


def test_autocast_is_refused_where_rounding_counts_and_changes_no_bound():
    model = LipschitzMLP([4, 16, 3]).eval()
    points = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
    outside = lipschitz_constant(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert lipschitz_constant(model) == outside
        with pytest.raises(ValueError, match="autocast must be off"):
            certify(model, points)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.tensor([0, 3]), "from 0 to 2"),
        (torch.tensor([0, -1]), "from 0 to 2"),
        (torch.tensor([0.0, 1.0]), "whole numbers"),
        (torch.tensor([[0], [1]]), r"must hold .* 2: got shape \(2, 1\)"),
        (torch.tensor([0]), r"must hold .* 2: got shape \(1,\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(y, message):
    model, x = LipschitzMLP([4, 3]), torch.rand(2, 4)
    for call in (lambda: certify(model, (x, y)), lambda: pgd(model, x, y, 0.1)):
        with pytest.raises((TypeError, ValueError), match=message):
            call()


def test_heads_need_a_dense_last_layer_of_several_logits():
    model, x, y = LipschitzMLP([4, 1]), torch.rand(2, 4), torch.tensor([0, 1])
    for head in ("rows", "pairs"):
        with pytest.raises(ValueError, match="head must be joint for a single logit"):
            certify(model, (x, y), head=head)
        with pytest.raises(ValueError, match="dense last layer"):
            certify(nn.Sequential(LipschitzMLP([4, 3]), nn.ReLU()), (x, y), head=head)
    with pytest.raises(ValueError, match=r"inputs of split must have shape .* no axis empty"):
        certify(model, (x[:0], y[:0]))


class Twice(nn.Linear):
    """Says how steep it is, and has a weight that isn't what it multiplies by."""

    norms = (2, 2)

    def forward(self, x):
        return 2 * super().forward(x)

    def lipschitz_bound(self):
        return 2 * torch.linalg.matrix_norm(self.weight, 2).item(), 0.0


def test_a_head_by_pairs_does_not_believe_an_attribute_called_weight():
    model, x, y = Twice(4, 3).double(), torch.rand(2, 4, dtype=F64), torch.tensor([0, 1])
    assert certify(model, (x, y)).constant > 0
    with pytest.raises(ValueError, match="isn't its weight and bias"):
        certify(model, (x, y), head="pairs")


def test_a_report_of_branches_is_the_norm_of_the_jacobian_at_its_point():
    model = nn.Sequential(Residual(linear(1.5), nn.ReLU()), linear(1.0)).double().eval()
    report = lipschitz_report(model, torch.randn(20, 4, dtype=F64))
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], report.point)
    assert report.lower == pytest.approx(torch.linalg.matrix_norm(jacobian, 2).item()) and report.lower <= report.upper
    assert [row["layer"] for row in report.rows] == ["0.0", "0.1", "1"]
    assert all(row["attained"] <= row["bound"] * (1 + 1e-9) for row in report.rows)


EXPORTED = {
    "dense": (lambda: LipschitzMLP([6, 8, 8, 3], constant=2.0, dtype=F64), (6,)),
    "spectral": (lambda: LipschitzMLP([6, 8, 3], constraint="spectral norm", dtype=F64), (6,)),
    "rows": (lambda: LipschitzMLP([6, 8, 3], constraint="rows", dtype=F64), (6,)),
    **{
        method: (lambda method=method: LipschitzCNN((1, 8, 8), 3, "mini", method, width=0.25, dtype=F64), (1, 8, 8))
        for method in ("BCOP", "RKO", "OSSN", "SVCM", "RK-L2NE")
    },
    "strided": (lambda: nn.Sequential(BCOPConv(2, 8, 3, stride=2, dtype=F64), MaxMin(), nn.Flatten()), (2, 8, 8)),
    "groups": (lambda: nn.Sequential(BCOPConv(4, 4, 3, groups=2, dilation=2, dtype=F64), nn.Flatten()), (4, 6, 6)),
    "even": (lambda: nn.Sequential(BCOPConv(2, 4, 2, dilation=3, dtype=F64), nn.Flatten()), (2, 6, 6)),
    "residual": (lambda: nn.Sequential(Residual(OrthogonalLinear(6, 6, dtype=F64)), MaxMin()), (6,)),
    "twice": (lambda: nn.Sequential(*[OrthogonalLinear(6, 6, gain=2.0, dtype=F64)] * 2), (6,)),
    "alone": (lambda: OrthogonalLinear(6, 3, dtype=F64), (6,)),
}


@pytest.mark.parametrize("name", list(EXPORTED))
def test_an_exported_network_is_plain_and_has_the_same_outputs_and_certificate(name):
    """Breaks for an even kernel padded alike, a stride's order of pixels, or a bound looser than the promise."""
    build, shape = EXPORTED[name]
    model = build()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, dtype=F64, generator=torch.Generator().manual_seed(i)))
        for module in model.modules():
            if hasattr(module, "settle_"):
                module.settle_()
    state = copy.deepcopy(model.state_dict())
    plain = export(model)
    assert not any(hasattr(module, "compute_weight") for module in plain.modules())
    x = torch.rand(10, *shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    y = model.eval()(x).argmax(1)
    torch.testing.assert_close(plain(x), model(x), rtol=0, atol=1e-12)
    p = inf if name == "rows" else 2
    ours, theirs = (certify(network, (x, y), p, max_residual=inf) for network in (model, plain))
    assert theirs.constant == pytest.approx(ours.constant, rel=1e-6)
    torch.testing.assert_close(theirs.radius, ours.radius, rtol=1e-6, atol=1e-12)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    if name == "twice":
        assert plain[0] is plain[1]


def test_what_no_plain_layer_can_say_is_not_exported():
    with pytest.raises(ValueError, match=r"layer 1: RowLinear is bounded from the 2-norm to the inf-norm"):
        export(LipschitzMLP([4, 4, 2], constraint="mixed"))
    with pytest.raises(ValueError, match=r"layer 0: .*Doubled.* has a forward of its own"):
        export(nn.Sequential(Doubled(4, 4)))
    with pytest.raises(ValueError, match=r"layer 0: .*carries a hook"):
        export(nn.Sequential(with_hook(orthogonal(4, 4))))


@pytest.mark.parametrize("value", [1e30, 1e-30, 0.0, math.nan])
def test_spectral_normalisation_out_of_range_is_no_promise(value):
    """Breaks where max(0, NaN) is 0: the residual of a bound that is no number."""
    model = nn.Sequential(SpectralLinear(4, 4), nn.ReLU())
    with torch.no_grad():
        model[0].raw.mul_(value)
    with pytest.raises(ValueError, match="layer 0: "):
        lipschitz_constant(model)


def test_old_weight_norm_is_refused():
    with pytest.warns(FutureWarning):
        model = nn.Sequential(weight_norm(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match=r"layer 0: .*carries a hook"):
        lipschitz_constant(model)
