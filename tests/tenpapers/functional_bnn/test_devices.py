"""Every run works where the default device has no storage: device and dtype come from what it was told."""

import pytest
import torch

from tenpapers.data import load
from tenpapers.functional_bnn import measure, workloads
from tenpapers.functional_bnn.agents import AGENTS
from tests.devices import same_without_a_default_device

TINY = {"samples": 5}
RUNS = {
    "toy": lambda: measure.extrapolate(kernel="RBF", steps=2, strategy="adversarial", n_random=3, **TINY),
    "toy, weights": lambda: measure.extrapolate(steps=2, method="weight-space VI", **TINY),
    "steps": lambda: measure.piecewise_run("piecewise linear", 2, 5),
    "steps, twin": lambda: measure.piecewise_run("Gaussian twin", 2, 5),
    "free": lambda: measure.free_gaussian(2, 5),
    "score": lambda: measure.score_error(20),
    "series": lambda: measure.forecast("airline", "fBNN", 2, 5, every=4),
    "series, exact": lambda: measure.forecast("airline", "exact GP", every=4),
    "small": lambda: measure.regress("diabetes", 0, "fBNN", epochs=1, batch_size=200, prior_steps=2, **TINY),
    "large": lambda: measure.regress_large("diabetes", 0, "fBNN", steps=2, kernel_steps=2, **TINY),
    "large, exact": lambda: measure.regress_large("diabetes", 0, "GP of a subset", kernel_steps=2),
    "search": lambda: measure.search_run("arc-cosine", 2, "fBNN", queries=2, steps=1),
    "search, exact": lambda: measure.search_run("Matérn ½", 2, "exact GP", queries=2),
    **{f"bandit, {name}": lambda name=name: measure.bandit_run("wheel", name, 12) for name in AGENTS},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stays_where_it_is_told(name, monkeypatch):
    series = load("airline")  # the file is read once, on the CPU
    monkeypatch.setattr(
        workloads, "load", lambda name, **options: series if name == "airline" else load(name, **options)
    )

    def compute():
        for remembered in (workloads.toy_prior, workloads.series_prior, workloads.ard_prior, workloads.neural_prior):
            remembered.cache_clear()
        return {key: torch.tensor(value, device="cpu") for key, value in RUNS[name]().items()}

    same_without_a_default_device(compute)
