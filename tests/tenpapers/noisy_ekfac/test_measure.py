"""What a run on images trains and measures."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from nnlib.models import MLP, VGG
from nnlib.noisy_ekfac import OPTIMIZERS, NoisyAdam
from nnlib.training import Dataset, Split
from tenpapers.noisy_ekfac import measure
from tenpapers.noisy_ekfac.measure import classify
from tenpapers.noisy_ekfac.workloads import RATES, WORKLOADS
from tests.devices import same_without_a_default_device


def noise(n=20, size=32, channels=3):
    """Images of noise, a third of them for each part."""
    generator = torch.Generator().manual_seed(0)
    parts = [Split(torch.rand(n, channels, size, size, generator=generator), torch.arange(n) % 10) for _ in range(3)]
    return Dataset(*parts, info={}, source="noise", licence="none")


@pytest.fixture
def small(monkeypatch):
    """The paper's workload with a narrow network, small batches and images of noise."""
    paper = replace(WORKLOADS["VGG16, CIFAR-10"], build=partial(VGG, 16, 3, width=1 / 32), data=noise, batch_size=8)
    monkeypatch.setitem(WORKLOADS, "VGG16, CIFAR-10", paper)


@pytest.mark.parametrize("method", RATES)
def test_the_papers_experiment_runs_with_every_method(small, method):
    found = classify("VGG16, CIFAR-10", method, steps=2, particles=2)
    assert 0 <= found["accuracy"] <= 1
    assert found["log_likelihood"] < 0


# Bayes by backprop is another case: its deviations start at exp(-3) whatever the KL weight.
@pytest.mark.parametrize("method", ["Noisy Adam", "Noisy K-FAC", "Noisy EK-FAC"])
def test_a_cold_posterior_predicts_with_one_network(method):
    """At a KL weight of almost zero all samples are the mean. Breaks if predictions draw from another posterior."""
    options = {"epochs": 2, "kl_weight": 1e-12, "dtype": "float64"}
    one, many = (classify("MLP, digits", method, particles=p, **options) for p in (1, 7))
    for metric in ("accuracy", "log_likelihood", "brier"):
        assert one[metric] == pytest.approx(many[metric], abs=1e-4)


def test_without_a_clip_sgd_decays_like_the_prior():
    """The gradient of the prior, kl_weight w / (n prior_variance), is SGD's weight decay: scaling both leaves it."""
    options = {"epochs": 2, "dtype": "float64"}
    a = classify("MLP, digits", "SGD", kl_weight=0.1, prior_variance=1.0, **options)
    b = classify("MLP, digits", "SGD", kl_weight=0.2, prior_variance=2.0, **options)
    c = classify("MLP, digits", "SGD", kl_weight=20.0, prior_variance=2.0, **options)
    assert a["log_likelihood"] == b["log_likelihood"] != c["log_likelihood"]


@pytest.mark.parametrize("method", ["SGD", "Noisy Adam"])
def test_what_is_reported_is_of_the_test_images(method, monkeypatch):
    """Breaks if training images are reported: with test labels that were never trained on, nothing is right."""
    data = noise(size=2, channels=1)
    data = replace(data, train=Split(data.train.x, data.train.y % 5), test=Split(data.train.x, data.train.y % 5 + 5))
    tiny = replace(WORKLOADS["MLP, digits"], build=partial(MLP, [4, 20, 10]), data=lambda: data, batch_size=10)
    monkeypatch.setitem(WORKLOADS, "MLP, digits", tiny)
    found = {part: classify("MLP, digits", method, epochs=40, measured_on=part) for part in ("train", "test")}
    assert found["test"]["accuracy"] < 0.1 < found["train"]["accuracy"]


@pytest.mark.parametrize("epochs", [4, 8])
def test_the_rate_falls_by_ten_at_half_and_at_three_quarters(epochs, monkeypatch):
    model, data, seen = nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), noise(n=10, size=2, channels=1), []
    plain, noisy = torch.optim.SGD(model.parameters(), lr=1.0), NoisyAdam(model, 10, 1.0)
    plain.register_step_pre_hook(lambda *_: seen.append(plain.param_groups[0]["lr"]))
    monkeypatch.setattr(noisy, "step", lambda: seen.append(noisy.lr))
    quarter = 3 * epochs // 4  # 3 batches of 3, one image left out
    expected = [1.0] * 2 * quarter + [0.1] * quarter + [0.01] * quarter
    measure.descend(model, plain, data, epochs, 3, seed=0, steps=1000)
    assert seen == pytest.approx(expected)
    seen.clear()
    measure.sample_and_step(model, noisy, data.train, epochs, 3, seed=0, steps=1000)
    assert seen == pytest.approx(expected)


def test_with_and_without_noise_training_sees_the_same_batches(monkeypatch):
    """Breaks if the two draw their order differently: seeds would not pair the methods."""
    model, data, seen = nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), noise(n=10, size=2, channels=1), []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    plain, noisy = torch.optim.SGD(model.parameters(), lr=0.1), NoisyAdam(model, 10, 0.1)
    measure.descend(model, plain, data, 2, 3, seed=5, steps=5)
    measure.sample_and_step(model, noisy, data.train, 2, 3, seed=5, steps=5)
    assert len(seen) == 10 and all(torch.equal(a, b) for a, b in zip(seen[:5], seen[5:], strict=True))


def test_methods_with_a_basis_renew_it_as_often_as_the_others_their_inverses(small, monkeypatch):
    """Breaks if an option reaches a method that has none, or misses one that has it."""
    seen = {}

    def spy(name):
        def make(*args, **options):
            seen[name] = options.get("update_basis_every")
            return OPTIMIZERS_[name](*args, **options)

        return make

    OPTIMIZERS_ = dict(OPTIMIZERS)
    for name in OPTIMIZERS_:
        monkeypatch.setitem(OPTIMIZERS, name, spy(name))
        classify("VGG16, CIFAR-10", name, steps=1, particles=1)
    assert seen == {"Bayes by backprop": None, "Noisy Adam": None, "Noisy K-FAC": 10, "Noisy EK-FAC": 10}


@pytest.mark.parametrize(("workload", "method"), [("VGG, ImageNet", "SGD"), ("MLP, digits", "Adam")])
def test_unknown_names_are_refused(workload, method):
    with pytest.raises(ValueError, match="must be one of"):
        classify(workload, method)


def test_training_follows_its_device():
    """Breaks if a tensor is made where the default says."""

    def metrics():
        found = classify("MLP, digits", "Noisy EK-FAC", steps=2, particles=2, device="cpu")
        return {"metrics": torch.tensor([found["log_likelihood"], found["brier"]], device="cpu")}

    same_without_a_default_device(metrics)
