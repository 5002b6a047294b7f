"""The experiments run where they are told to: under a default device without storage, every tensor lies on the CPU."""

import pytest
import torch

from nnlib.lipschitz import exact_distance
from tenpapers.groupsort import measure, workloads
from tenpapers.groupsort.gan import train_gan
from tests.devices import same_without_a_default_device


def all_of(dtype):
    where = {"dtype": dtype, "device": "cpu"}
    data = workloads.images("digits").to("cpu", dtype)
    found = {
        "classifier": workloads.train_classifier(data, hidden=(8,), epochs=1, batch_size=700, **where)(data.test.x)
    }
    p, q = workloads.Cones(3, (-2.0, 2.0), dtype)(4, torch.Generator("cpu").manual_seed(0))
    found["distance"] = torch.tensor(exact_distance(p, q), **where)
    found["V"] = workloads.absolute_value_critic("MaxMin", steps=2, **where)(p[:, :1])
    found["spectrum"] = measure.jacobian_spectrum("MaxMin", 2, 8, "spectral norm").to(dtype)
    images = data.train.x[:40]
    generator = train_gan(images, steps=1, batch_size=4, n_critic=1)
    distance = measure.gan_distance(images, generator, "MaxMin", hidden=(8,), steps=1, batch_size=4, n_test=10)
    found["gan"] = torch.tensor(list(distance.values()), **where)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tensor_is_made_without_a_device(dtype):
    found = same_without_a_default_device(lambda: all_of(dtype))
    assert all(tensor.dtype == dtype for tensors in found.values() for tensor in tensors)


TINY = {
    "absolute_value_run": {"activation": "MaxMin", "steps": 2},
    "cone_run": {"dim": 2, "activation": "MaxMin", "width": 4, "hidden": 1, "steps": 2, "n_test": 4},
    "gan_run": {"dataset": "digits", "activation": "MaxMin", "gan_steps": 1, "hidden": (8,), "steps": 1, "n_test": 10}
    | {"n_images": 40},
    "lwgan_run": {"dataset": "digits", "critic": "clipped", "gan_steps": 1, "n_images": 40, "n_test": 10},
    "classify_run": {"dataset": "digits", "hidden": (8,), "epochs": 1, "attacks": (0.1,), "attack_steps": 2},
    "robust_run": {"dataset": "digits", "hidden": (8,), "epochs": 1},
    "undead_run": {"dataset": "digits", "constraint": "Björck", "hidden": (8,), "epochs": 1},
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_every_run_takes_a_device(name, device, monkeypatch):
    """Breaks if a cell of the paper profile, which names a device, is refused by a function that knows none."""
    monkeypatch.setattr(measure, "device_of", lambda name: torch.device("cpu"))
    assert getattr(measure, name)(**TINY[name], device=device)
