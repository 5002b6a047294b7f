"""The paper's networks: shapes, constants, training, certificates that no attack breaks; gradients through depth."""

import math

import pytest
import torch
from torch import nn

from nnlib.bcop import ARCHITECTURES, METHODS, LipschitzCNN
from nnlib.lipschitz import conv_singular_values, lipschitz_constant, lipschitz_report
from tenpapers.bcop import gradient_norms, measure, recipes, run, train_classifier
from tenpapers.data import load

F64 = torch.float64


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize(
    ("architecture", "shape", "kernels", "dense"),
    [
        ("small", (3, 32, 32), [(16, 12, 2, 2), (32, 64, 2, 2)], [(100, 2048), (10, 100)]),
        ("small", (1, 28, 28), [(16, 4, 2, 2), (32, 64, 2, 2)], [(100, 1568), (10, 100)]),
        ("fc3", (1, 28, 28), [], [(1024, 784), (1024, 1024), (1024, 1024), (10, 1024)]),
    ],
)
def test_networks_have_the_papers_shapes(architecture, shape, kernels, dense):
    """Strides by rearranging, so that a 4 x 4 kernel of stride 2 is a 2 x 2 kernel on four times the channels."""
    layers = [layer for layer in LipschitzCNN(shape, 10, architecture) if hasattr(layer, "weight")]
    assert [tuple(layer.weight.shape) for layer in layers] == kernels + dense


def test_large_is_the_papers():
    with torch.device("meta"):
        convolutions, hidden = ARCHITECTURES["large"]
    assert convolutions == [(32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)] and hidden == [512, 512]
    model = LipschitzCNN((3, 16, 16), 10, "large", width=0.25)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize("method", list(METHODS))
def test_no_pair_of_points_is_further_apart_after_the_network_than_its_constant_allows(method):
    model = LipschitzCNN((1, 8, 8), 10, "mini", method, dtype=F64, seed=3).eval()
    report = lipschitz_report(model, random(16, 1, 8, 8), steps=10)
    assert report.lower <= report.upper * (1 + 1e-9)
    if method.startswith("BCOP"):
        assert report.upper == pytest.approx(1, abs=1e-9)


def test_upsampling_counts_in_the_constant():
    """The caveat about the paper's critic on CIFAR-10: nearest upsampling by 2 doubles the Lipschitz constant."""
    model = LipschitzCNN((1, 4, 4), 1, "mini critic", width=0.5, upsample=2, dtype=F64)
    assert lipschitz_constant(model) == pytest.approx(2, abs=1e-9)
    x, shift = random(1, 1, 4, 4), 1e-3 * random(1, 1, 4, 4, seed=1)
    first = model[0]
    assert ((first(x + shift) - first(x)).norm() / shift.norm()).item() == pytest.approx(2)


@pytest.mark.parametrize("method", ["BCOP", "RKO", "OSSN", "SVCM"])
def test_certified_is_at_most_attacked_is_at_most_clean(method):
    """``measure`` raises CertificateBroken where an attack succeeds on a certified point."""
    found = run("digits", method, 0, architecture="mini", epochs=2, batch_size=100, lr=5e-3, attacked=60)
    for epsilon in (0.25, 0.5):
        few = [found[f"few {name} {epsilon:g}"] for name in ("certified", "attacked", "clean")]
        assert few == sorted(few)
    assert found["clean"] > 0.5 and found["radius"] > 0
    assert found["worst"] <= found["constant"] * 1.5


def test_a_network_whose_first_layer_is_five_percent_steeper_has_a_larger_constant():
    """The negative control of the certificate."""
    data = load("digits")
    model = train_classifier(data, architecture="mini", epochs=1, batch_size=100, lr=5e-3, dtype=F64)
    honest = measure(model, data.test, [0.25], attacked=0)
    first = model[0]

    class Steeper(type(first)):
        def compute_weight(self):
            return 1.05 * super().compute_weight()

    first.__class__ = Steeper
    found = measure(model, data.test, [0.25], attacked=0)
    assert found["constant"] == pytest.approx(1.05 * honest["constant"])


def test_singular_values_of_a_trained_network_are_within_1e_5_of_one():
    """In single precision, as trained, on images of the size in use."""
    model = train_classifier(load("digits"), architecture="mini", epochs=2, batch_size=100, lr=5e-3)
    for layer in model:
        if isinstance(layer, METHODS["BCOP"]):
            assert layer.weight.dtype == torch.float32
            assert (conv_singular_values(layer.weight, layer.grid) - 1).abs().max() < 1e-5
    assert lipschitz_constant(model) == pytest.approx(1, abs=1e-4)


def test_fixed_kernels_stay_and_the_dense_layers_learn():
    data = load("digits")
    model = train_classifier(data, "BCOP-Fixed", architecture="mini", steps=5, batch_size=100)
    start = LipschitzCNN((1, 8, 8), 10, "mini", "BCOP-Fixed")
    same = {name: torch.equal(p, start.state_dict()[name]) for name, p in model.state_dict().items()}
    assert all(same[name] for name in same if name.endswith(("0.raw", "raw_bases", "2.raw", "4.raw")))
    assert not same["7.raw"]


def test_a_seed_gives_one_network_and_one_result():
    first, again, other = (run("digits", "BCOP", s, architecture="mini", steps=5, attacked=0) for s in (0, 0, 1))
    assert first == again != other


def test_the_papers_recipes_run_through_the_same_code():
    """Large on MNIST and on 32 x 32 colours, and the critic with upsampling: two steps each, narrower."""
    cell = recipes.cells(recipes.PAPER, ["mnist"], ["BCOP"], [0])[0] | {"epochs": None, "steps": 2, "width": 0.25}
    found = run(**cell | {"batch_size": 8, "attacked": 2, "attack_steps": 2})
    assert found["constant"] == pytest.approx(1, abs=1e-3) and 0 <= found["certified 1.58"] <= found["clean"]
    assert recipes.cells(recipes.PAPER, ["cifar10"], ["RKO"], [1, 2])[1]["seed"] == 2


@pytest.mark.parametrize("method", ["BCOP", "RKO", "OSSN"])
def test_only_bcop_carries_a_gradient_through_twenty_layers(method):
    """The title of the paper. RKO loses about a factor k a layer."""
    norms = gradient_norms(method, depth=20, channels=6, size=6, vectors=4)
    assert norms.shape == (4, 21) and torch.allclose(norms[:, 0], torch.ones(4, dtype=F64))
    if method == "BCOP":
        torch.testing.assert_close(norms, torch.ones_like(norms))
    else:
        assert norms[:, -1].max() < 1e-2
    if method == "RKO":
        per_layer = (norms[:, -1].log() / 20).exp()
        assert ((per_layer > 0.28) & (per_layer < 0.38)).all()


def test_relu_loses_half_of_the_squared_gradient_a_layer():
    """Through orthogonal convolutions: about half of the units are off."""
    norms = gradient_norms("BCOP", activation="ReLU", depth=10, channels=8, size=8)
    assert 0.4 < (norms[:, 1] ** 2).mean() < 0.6 and norms[:, -1].max() < 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LipschitzCNN((1, 8, 8), 10, "huge"), "architecture must be one of"),
        (lambda: LipschitzCNN((1, 8, 8), 10, "mini", "Cayley"), "method must be one of"),
        (lambda: LipschitzCNN((1, 7, 7), 10, "mini"), "stride must divide the image"),
    ],
)
def test_what_is_not_known_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_networks_have_no_layer_that_shrinks_gradients():
    """No pooling, normalisation, dropout or residual sum in any architecture."""
    allowed = (*(METHODS[m] for m in METHODS if isinstance(METHODS[m], type)), nn.Flatten)
    for name in ARCHITECTURES:
        model = LipschitzCNN((1, 16, 16), 1, name, width=0.0625 * (1 if name in ("fc3", "critic", "large") else 4))
        kinds = {type(layer).__name__ for layer in model if not isinstance(layer, allowed)}
        assert kinds <= {"MaxMin", "OrthogonalLinear"}
    assert math.isfinite(lipschitz_constant(model))


@pytest.mark.parametrize("method", list(METHODS))
def test_weights_carry_no_gradient_in_evaluation(method):
    """Breaks if a layer hands out its parameter itself."""
    model = LipschitzCNN((1, 8, 8), 10, "mini", method, width=0.25).eval()
    assert not any(layer.weight.requires_grad for layer in model if hasattr(layer, "weight"))
