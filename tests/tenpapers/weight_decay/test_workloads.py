"""Images, networks and settings of the chapter: what is standardised by what, and which coefficient a decay has."""

import pytest
import torch

from nnlib.weight_decay import invariant_layers
from tenpapers.weight_decay.workloads import CHOSEN, build, prepared, settings, standardise

DATA = prepared("digits", 200, torch.float64)


def test_inputs_are_standardised_by_the_training_images_alone():
    data = prepared("digits", 300, torch.float64)
    torch.testing.assert_close(data.train.x.mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(data.train.x.std(), torch.tensor(1.0, dtype=torch.float64))
    assert data.test.x.mean().abs() > 1e-6 and "first 300" in data.source
    assert "mean 0" in standardise(data).info["scaling"]


def test_networks_fit_their_images():
    assert invariant_layers(build(DATA, width=2)) == ["layers.0", "layers.4", "layers.9"]
    assert build(DATA, batch_norm=False, hidden=[5], bias=False).layers[1].bias is None


def test_each_kind_of_decay_has_its_own_coefficient_and_plain_kfac_a_limit():
    for (method, batch_norm), choice in CHOSEN.items():
        found = {decay: settings("fashion_mnist", method, batch_norm, decay) for decay in ("none", "l2", "decoupled")}
        assert [cell["weight_decay"] for cell in found.values()] == [0.0, choice.l2, choice.decoupled]
        assert all(cell["lr"] == choice.lr for cell in found.values())
        assert ("kl_clip" in found["none"]) == (method.startswith("K-FAC") and not batch_norm)


def test_a_number_of_images_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="examples must be from 1 to 1400"):
        prepared("digits", 0)
