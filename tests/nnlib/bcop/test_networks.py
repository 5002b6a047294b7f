"""The paper's networks: shapes, constants, and no layer that loses what the convolutions keep."""

import math

import pytest
import torch
from torch import nn

from nnlib.bcop import ARCHITECTURES, METHODS, LipschitzCNN
from nnlib.lipschitz import lipschitz_constant, lipschitz_report

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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LipschitzCNN((1, 8, 8), 10, "huge"), "architecture must be one of"),
        (lambda: LipschitzCNN((1, 8, 8), 10, "mini", "Cayley"), "method must be one of"),
        (lambda: LipschitzCNN((1, 7, 7), 10, "mini"), r"shape must be images that each stride divides: got \(7, 7\)"),
        (lambda: LipschitzCNN((8, 8), 10, "mini"), r"shape must be three numbers, \(c, H, W\): got \(8, 8\)"),
        (lambda: LipschitzCNN((1, 8, 8), 10, "mini", activation="Maxout"), "activation must be one of MaxMin"),
        (lambda: LipschitzCNN((1, 8, 8), 10, "mini", width=0.2), "width must make groups of 2 .* got 3 features"),
        (lambda: LipschitzCNN((1, 8, 8), 10, "mini", width=-1.0), "width must be a number in"),
        (lambda: LipschitzCNN((1, 8, 8), 10, "mini", seed=-1), "seed must be a whole number"),
    ],
)
def test_what_is_not_known_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_networks_have_no_layer_that_shrinks_gradients():
    """No pooling, normalisation, dropout or residual sum in any architecture."""
    allowed = (*(METHODS[m] for m in METHODS if isinstance(METHODS[m], type)), nn.Flatten)
    for name in ARCHITECTURES:
        model = LipschitzCNN((1, 16, 16), 1, name, width=0.0625 * (1 if name in ("fc3", "critic", "large") else 8))
        kinds = {type(layer).__name__ for layer in model if not isinstance(layer, allowed)}
        assert kinds <= {"MaxMin", "OrthogonalLinear"}
    assert math.isfinite(lipschitz_constant(model))


@pytest.mark.parametrize("method", list(METHODS))
def test_weights_have_the_gradient_in_evaluation_that_they_have_in_training(method):
    """Breaks if evaluation cuts a weight from its parameters: fine-tuning would then train the biases alone."""
    model = LipschitzCNN((1, 8, 8), 10, "mini", method, width=0.25, dtype=torch.float64)
    x = random(2, 1, 8, 8).double()
    gradients = []
    for mode in (True, False):
        model.train(mode).zero_grad()
        model(x).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.numel()})
    scale = max(gradient.abs().max() for gradient in gradients[0].values())
    assert all(gradient.abs().max() > 1e-6 * scale for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        if method == "OSSN":  # its norm is a constant in evaluation
            assert gradients[1][name].abs().max() > 1e-6 * scale
            continue
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-3 * scale.item())
