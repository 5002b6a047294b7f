from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from nnlib.models import VGG
from nnlib.training import Dataset, Split
from tenpapers.noisy_ekfac import classification, classify
from tenpapers.noisy_ekfac.classification import RATES, WORKLOADS
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
    options = {"epochs": 2, "kl_weight": 1e-12, "dtype": torch.float64}
    one, many = (classify("MLP, digits", method, particles=p, **options) for p in (1, 7))
    for metric in ("accuracy", "log_likelihood", "brier"):
        assert one[metric] == pytest.approx(many[metric], abs=1e-4)


def test_without_a_clip_sgd_decays_like_the_prior():
    """The gradient of the prior, kl_weight w / (n prior_variance), is SGD's weight decay: scaling both leaves it."""
    options = {"epochs": 2, "dtype": torch.float64}
    a = classify("MLP, digits", "SGD", kl_weight=0.1, prior_variance=1.0, **options)
    b = classify("MLP, digits", "SGD", kl_weight=0.2, prior_variance=2.0, **options)
    c = classify("MLP, digits", "SGD", kl_weight=20.0, prior_variance=2.0, **options)
    assert a["log_likelihood"] == b["log_likelihood"] != c["log_likelihood"]


class Spy(torch.optim.SGD):
    """Notes the learning rate of each step."""

    def step(self):
        self.seen.append(self.param_groups[0]["lr"])


@pytest.mark.parametrize("epochs", [4, 8])
def test_the_rate_falls_by_ten_at_half_and_at_three_quarters(epochs):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    spy = Spy(model.parameters(), lr=1.0)
    spy.seen = []
    data = noise(n=10, size=2, channels=1)
    classification._train(model, spy, data.train, epochs, 3, 0, None)  # 3 batches of 3, one image left out
    quarter = 3 * epochs // 4
    assert spy.seen == pytest.approx([1.0] * 2 * quarter + [0.1] * quarter + [0.01] * quarter)


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
