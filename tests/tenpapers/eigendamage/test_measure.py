"""The experiments: what a row says, and the first steps of the paper's own networks."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nnlib.eigendamage import METHODS
from nnlib.training import Dataset, Split
from tenpapers.eigendamage import measure, runs, workloads


def noise(images=8, channels=3, size=16):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, channels, size, size, generator=generator)
    y = torch.arange(images) % 10
    return Dataset(Split(x, y), Split(x, y), Split(x, (y + 1) % 10), {}, "noise", "")  # who knows one errs on the other


@pytest.fixture
def briefly(monkeypatch):
    """Every workload on a handful of images."""
    for name, workload in workloads.WORKLOADS.items():
        channels = 3 if "CIFAR" in name else 1
        data = noise(channels=channels, size=8 if name in ("CNN", "CNN by Adam", "MLP") else 16)
        short = replace(workload, data=lambda data=data: data, batch_size=4, pruned_with=4)
        monkeypatch.setitem(workloads.WORKLOADS, name, short)
    workloads.trained.cache_clear()
    yield
    workloads.trained.cache_clear()


@pytest.mark.parametrize("name", ["VGG19, CIFAR-10", "ResNet32, CIFAR-10", "PreResNet29, CIFAR-10"])
def test_the_papers_networks_go_through_the_same_code(name, briefly):
    (row,) = measure.trade_off_of(name, "EigenDamage", ratios=[0.6], finetune=[0.6], epochs=1, timed=False)
    assert 0 < row["parameters"] < 1 and 0 < row["flops"] < 1
    assert all(0 <= row[key] <= 1 for key in ("accuracy", "accuracy_bn", "accuracy_finetuned"))


@pytest.mark.parametrize("method", METHODS)
def test_a_row_says_what_was_pruned_from_the_same_network_at_each_ratio(method, briefly):
    rows = measure.trade_off_of("VGG", method, ratios=[0.2, 0.6], finetune=[0.6], epochs=1)
    assert [row["ratio"] for row in rows] == [0.2, 0.6]
    assert rows[0]["accuracy_finetuned"] is None and rows[1]["accuracy_finetuned"] is not None
    assert rows[1]["parameters"] < rows[0]["parameters"] < 1 and rows[0]["time"] > 0
    assert len(rows[0]["outputs_kept"].split()) == 8
    assert (rows[0]["inputs_kept"] != "") == (method == "EigenDamage")
    again = measure.trade_off_of("VGG", method, ratios=[0.6], epochs=1, timed=False)[0]
    assert again["parameters"] == rows[1]["parameters"] and again["accuracy"] == rows[1]["accuracy"]


@pytest.mark.parametrize(("on_train", "expected"), [(1.1, 0.25), (-0.1, 0.5)])
def test_fine_tuned_accuracy_is_of_the_test_images_with_the_better_statistics(on_train, expected, monkeypatch):
    """Breaks if training accuracy is reported; new statistics count where the *training* images say so."""
    monkeypatch.setattr(measure, "train", lambda *_, **__: None)
    monkeypatch.setattr(measure, "_with_new_statistics", lambda *_: (on_train, 0.25))
    x = torch.eye(4)
    known = Dataset(
        Split(x, torch.arange(4)), Split(x, torch.arange(4)), Split(x, torch.tensor([0, 1, 3, 2])), {}, "", ""
    )
    network = nn.Sequential(nn.Identity())  # right on all training images, on half of the test images
    assert measure._finetuned(network, known, workloads.WORKLOADS["CNN"], 0, None) == expected


def test_rounds_end_with_a_depthwise_network(briefly):
    rows = measure.rounds_of("VGG", number=2)
    assert [row["stage"] for row in rows] == [
        "round 1",
        "round 2",
        *(f"depthwise, {x}" for x in ("not fine-tuned", "fine-tuned")),
    ]
    sizes = [row["parameters"] for row in rows]
    assert sizes[0] > sizes[1] > sizes[2] == sizes[3]
    # A layer that was whole may become a bottleneck of three in a later round; none becomes more.
    whole = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in workloads.trained("VGG")[0].modules())
    assert all(row["layers"] <= 3 * (whole - 1) + 1 for row in rows) and rows[1]["layers"] == rows[3]["layers"]


def test_only_networks_with_a_scale_are_slimmed():
    assert "NN Slimming" in workloads.methods("VGG") and "NN Slimming" not in workloads.methods("CNN")
    cells = [cell for cell in runs.trade_off.declared("laptop") if cell["workload"] == "CNN"]
    assert len(cells) == 3 * (len(METHODS) - 1) and cells[0]["seed"] == 0


def test_training_depends_on_the_seed_and_nothing_else(briefly):
    def weights(seed):
        workloads.trained.cache_clear()
        return workloads.trained("CNN by Adam", seed, epochs=1)[0][4].weight

    torch.manual_seed(1)
    one = weights(0)
    torch.manual_seed(2)
    assert torch.equal(one, weights(0)) and not torch.equal(one, weights(1))


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="workload must be one of CNN, CNN by Adam"):
        workloads.trained("digits")


def test_the_fisher_is_closer_to_diagonal_in_the_eigenbasis():
    """Breaks if gradients were rotated by the wrong side or by the transpose."""
    for share in measure.diagonal("CNN", examples=25):
        assert 1.5 * share["weights"] < share["eigenbasis"] < 0.2  # and it is not diagonal


def test_costs_add_up_in_the_eigenbasis_and_not_over_filters():
    """Breaks if the scores were those of another basis than the one in which entries are deleted."""
    (row,) = measure.additivity("CNN", "2", [24])
    assert row["EigenDamage"] == pytest.approx(1, abs=1e-9)
    assert min(row["Kron-OBD"], row["Kron-OBS"]) > 1.1
