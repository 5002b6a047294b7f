"""The optimiser's interface: what the model holds when, what is refused, and that all networks train."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.bayes import Gaussian
from nnlib.models import MLP, SmallCNN
from nnlib.noisy_ekfac import OPTIMIZERS, NoisyEKFAC
from tenpapers.data import load
from tests.devices import same_without_a_default_device

METHODS = list(OPTIMIZERS)
digits = load("digits").to(dtype=torch.float64)


def steps(optimizer, model, x, y, count):
    for _ in range(count):
        with optimizer.sample():
            cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
def test_the_model_holds_a_draw_inside_and_the_mean_outside(method):
    model = MLP([64, 8, 10], seed=0, dtype=torch.float64)
    optimizer = OPTIMIZERS[method](model, 100, 0.01)
    mean = [p.detach().clone() for p in model.parameters()]
    with optimizer.sample():
        assert not torch.equal(model.layers[1].weight, mean[0])
    assert all(torch.equal(p, m) for p, m in zip(model.parameters(), mean, strict=True))
    with pytest.raises(RuntimeError, match=r"backward\(\) inside"):
        optimizer.step()


@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_learns_the_digits(method):
    model, x, y = MLP([64, 16, 10], seed=0, dtype=torch.float64), digits.train.x[:300], digits.train.y[:300]
    lr, options = (0.03, {}) if method == "Bayes by backprop" else (0.1, {"damping": 1e-2})
    optimizer = OPTIMIZERS[method](model, len(x), lr, kl_weight=0.1, kl_clip=0.1, **options)
    steps(optimizer, model, x, y, 150)
    p = optimizer.predict(digits.test.x, particles=10).softmax(-1).mean(0)
    assert (p.argmax(1) == digits.test.y).double().mean() > 0.8


def test_a_convolutional_network_trains():
    model = SmallCNN(1, 8, 10, width=4, seed=0, batch_norm=False, dtype=torch.float64)
    optimizer = NoisyEKFAC(model, 200, 0.1, kl_weight=0.1, damping=1e-2, kl_clip=0.1, update_basis_every=5)
    x, y = digits.train.x[:200], digits.train.y[:200]
    before = cross_entropy(model(x), y).item()
    steps(optimizer, model, x, y, 80)
    assert cross_entropy(model(x), y).item() < 0.7 * before


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_is_the_same_run(method):
    def make():
        model = MLP([64, 6, 10], seed=0, dtype=torch.float64)
        return model, OPTIMIZERS[method](model, 50, 0.01)

    x, y = digits.train.x[:50], digits.train.y[:50]
    model, optimizer = make()
    steps(optimizer, model, x, y, 3)
    state = optimizer.state_dict()
    other, resumed = make()
    resumed.load_state_dict(state)
    steps(optimizer, model, x, y, 3)
    steps(resumed, other, x, y, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_parameters_outside_linear_and_convolutional_layers_are_refused_by_name():
    with pytest.raises(ValueError, match=r"1\.weight, 1\.bias"):
        NoisyEKFAC(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 10, 0.1)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"damping": -1.0}, {"momentum": 1.0}, {"kl_clip": 0.0}])
def test_arguments_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad)) + " must be"):
        NoisyEKFAC(nn.Linear(2, 2), **{"n_data": 10, "lr": 0.1} | bad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_no_tensor_is_made_without_a_device_or_in_another_dtype(method, dtype):
    def compute():
        model = MLP([3, 4, 1], seed=0, device="cpu", dtype=dtype)
        head = Gaussian(0.5, device="cpu", dtype=dtype)
        optimizer = OPTIMIZERS[method](model, 5, 0.01, likelihood=head)
        x = torch.linspace(-1, 1, 15, dtype=dtype, device="cpu").view(5, 3)
        for _ in range(2):
            with optimizer.sample():
                head.loss(model(x), x[:, :1]).backward()
            optimizer.step()
        return {"means": [q.mean for q in optimizer.posteriors.values()], "outputs": optimizer.predict(x, 3)}

    found = same_without_a_default_device(compute)
    assert all(t.dtype == dtype for tensors in found.values() for t in tensors)


@pytest.mark.parametrize("kl_clip", [1e-3, 1e9])
def test_a_long_move_is_shortened_to_the_squared_length_of_the_clip(kl_clip):
    """Breaks without the root: a squared length of 4 times the clip means a move twice too long."""
    moves = {}
    for clip in (None, kl_clip):
        model = MLP([64, 6, 10], seed=0, dtype=torch.float64)
        optimizer = NoisyEKFAC(model, 50, 0.5, kl_clip=clip, momentum=0.0, damping=0.1)
        before = {name: q.mean for name, q in optimizer.posteriors.items()}
        steps(optimizer, model, digits.train.x[:50], digits.train.y[:50], 1)
        moves[clip] = {name: q.mean - before[name] for name, q in optimizer.posteriors.items()}
    squared = {}
    for clip, found in moves.items():
        metric = {name: q.damped(q.damping_in + 0.1) for name, q in optimizer.posteriors.items()}
        squared[clip] = sum(
            float((basis.rotate(found[name]).square() * values).sum()) for name, (basis, values) in metric.items()
        )
    assert squared[None] > 2e-3 and squared[kl_clip] == pytest.approx(min(kl_clip, squared[None]))


def test_fisher_statistics_are_those_of_targets_that_the_model_draws():
    """Of a linear model with noise variance 1/4: E[x x'] / (1/4), whatever the targets are. Breaks without the root."""
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, head = nn.Linear(1, 1, dtype=torch.float64), Gaussian(0.25, dtype=torch.float64)
    optimizer = NoisyEKFAC(model, 4000, 1e-6, likelihood=head, decay=0.0)
    with optimizer.sample():
        head.loss(model(x), torch.full_like(x, 100.0)).backward()
    optimizer.step()
    (q,) = optimizer.posteriors.values()
    assert q.S.item() == pytest.approx(4.0, rel=0.1)
    torch.testing.assert_close(q.basis.dense(), q.S * q.A)


def test_statistics_are_updated_when_they_are_due():
    model = MLP([64, 6, 10], seed=0, dtype=torch.float64)
    optimizer = OPTIMIZERS["Noisy Adam"](model, 50, 0.01, update_statistics_every=3)
    kept = []
    for _ in range(4):
        steps(optimizer, model, digits.train.x[:50], digits.train.y[:50], 1)
        kept.append(next(iter(optimizer.posteriors.values())).f)
    assert torch.equal(kept[0], kept[1]) and torch.equal(kept[1], kept[2]) and not torch.equal(kept[2], kept[3])
