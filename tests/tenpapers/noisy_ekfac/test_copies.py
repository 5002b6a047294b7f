"""Networks side by side: each is what it would be alone, and its gradients are autograd's."""

import pytest
import torch

from nnlib.noisy_ekfac import METHODS
from tenpapers.noisy_ekfac import copies


def test_the_backward_pass_is_that_of_autograd():
    """Breaks if the ReLU is forgotten, or the bias passes a gradient on."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, generator=g, dtype=torch.float64)
    shapes = ((4, 2, 6, 4), (4, 2, 1, 7))  # four particles of two networks
    layers = [torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True) for shape in shapes]
    f, inputs = copies.forward(x, layers)
    ds = torch.randn(f.shape, generator=g, dtype=torch.float64)
    expected = torch.autograd.grad(f, layers, ds)
    for found, h, W in zip(copies.backward(ds, layers, inputs), inputs, expected, strict=True):
        torch.testing.assert_close(found.mT @ h, W)


def test_networks_side_by_side_have_batches_of_their_own_data():
    x = torch.arange(24.0).view(2, 6, 2)
    seen = list(copies.batches(x, x[..., :1], 4, torch.Generator().manual_seed(0)))
    assert len(seen) == 1  # two of six are left out
    (xb, yb), (first, second) = seen[0], x
    assert xb.shape == (2, 4, 2) and torch.equal(xb[..., :1], yb)
    assert all((row == first).all(1).any() for row in xb[0]) and all((row == second).all(1).any() for row in xb[1])
    assert len(xb[0].unique(dim=0)) == 4


def test_fisher_statistics_are_those_of_targets_with_the_noise_of_the_model():
    """The bias of the last layer: the squared gradient of an example is precision^2 z^2 / precision on average."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 400, 3, generator=g), 2 * torch.randn(2, 400, 1, generator=g)
    options = {"lr": 1e-9, "kl_weight": 1e-9, "decay": 0.0, "epochs": 3, "batch_size": 400, "particles": 10}
    layers, head = copies.train(x, y, "Noisy Adam", **options)
    torch.testing.assert_close(layers[1].f[:, 0, -1], head.precision, rtol=0.1, atol=0)
    assert head.precision.shape == (2,) and (head.precision < 0.6).all()


def test_the_rate_of_regression_falls_by_ten_at_half(monkeypatch):
    seen = []

    class Spy(METHODS["Noisy Adam"]):
        def propose(self, *args, lr, **options):
            seen.append(lr)
            return super().propose(*args, lr=lr, **options)

    monkeypatch.setitem(copies.POSTERIORS, "Noisy Adam", Spy)
    x = torch.ones(1, 4, 2)
    copies.train(x, x[..., :1], "Noisy Adam", lr=0.5, epochs=4, batch_size=4, particles=1)
    assert seen == pytest.approx([0.5] * 4 + [0.05] * 4)  # two layers, one batch an epoch
