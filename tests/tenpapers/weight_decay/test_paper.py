"""The paper's runs, shortened: the same code with a few images, few channels, and one epoch."""

import numpy as np
import pytest
import torch

from nnlib.models import VGG, ResNet
from nnlib.weight_decay import METHODS
from tenpapers.data.augment import Augmented
from tenpapers.weight_decay import claims, runs, workloads
from tenpapers.weight_decay.measure import MEASURED, measure
from tenpapers.weight_decay.workloads import NETWORKS, PAPER, build, prepared
from tests.tenpapers.weight_decay.noise import noise


@pytest.fixture
def few(tmp_path, monkeypatch):
    """CIFAR-10's file format, with few images."""
    pixels = np.random.default_rng(0).integers(0, 256, (18, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(18) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=pixels, y_train=labels, x_test=pixels[:10], y_test=labels[:10])
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    prepared.cache_clear()
    yield
    prepared.cache_clear()


@pytest.fixture
def shallow(monkeypatch):
    """ResNet8 for ResNet32."""
    monkeypatch.setattr(workloads, "ResNet", lambda depth, *shape, **where: ResNet(8, *shape, **where))


def test_recipes_cover_the_table_two_networks_four_methods_three_cases():
    keys = {(recipe.network, recipe.method, recipe.case) for recipe in PAPER}
    assert len(keys) == len(PAPER) == 24 and {recipe.method for recipe in PAPER} == set(METHODS)
    for recipe in PAPER:
        kfac = recipe.method.startswith("K-FAC")
        for decays in (True, False):
            cell = recipe.settings(decays)
            assert (cell["epochs"], cell["drops"]) == ((100, (40, 80)) if kfac else (200, (60, 120, 180)))
            assert (cell.get("kl_clip") is not None) == (kfac and recipe.case == "plain")
            assert cell["decay"] == (("l2" if recipe.method == "SGD" else "decoupled") if decays else "none")
            assert (cell["lr"] > 0) and (cell["weight_decay"] > 0) == decays
    assert {recipe.damping for recipe in PAPER if recipe.case != "plain"} == {1e-3}


def test_runs_without_decay_have_the_learning_rate_and_the_clip_that_the_authors_chose_for_them():
    """In twelve of the 24 cells these are not those of the run with decay."""
    own = [recipe.settings(False)[key] != recipe.settings(True)[key] for recipe in PAPER for key in ("lr",)]
    clips = [r for r in PAPER if r.settings(False).get("kl_clip") != r.settings(True).get("kl_clip")]
    assert sum(own) == 11 and [(r.network, r.method, r.case) for r in clips] == [("VGG16", "K-FAC-G", "plain")]


def test_the_papers_table_has_each_recipe_with_decay_and_without_on_three_seeds():
    cells = runs.networks.declared("paper")
    assert len(cells) == 24 * 2 * 3 and {cell["seed"] for cell in cells} == {0, 1, 2}
    assert {cell["data"] for cell in cells} == {
        f"cifar10, {network}{more}" for network in NETWORKS for more in ("", ", augmented")
    }


def small(cell):
    """The cell, shrunk to a second."""
    width = 1 / 32 if "VGG16" in cell["data"] else 1
    return cell | {"width": width, "epochs": 1, "batch_size": 8, "drops": (), "norms_on": 2, "device": "cpu"}


@pytest.mark.parametrize("recipe", PAPER, ids=lambda r: f"{r.network}-{r.method}-{r.case}")
def test_each_recipe_runs_shortened_through_the_same_code(recipe, few, shallow):
    row = measure(**small(recipe.settings(decays=True)), seed=0)
    assert set(row) == {*MEASURED, "diverged"} and not row["diverged"]
    assert all(torch.isfinite(torch.tensor(row[name])) for name in MEASURED)


def test_resnet32_runs_at_its_own_depth(few):
    recipe = next(r for r in PAPER if (r.network, r.method, r.case) == ("ResNet32", "K-FAC-G", "BN + augmentation"))
    assert not measure(**small(recipe.settings(decays=True)), seed=0)["diverged"]


def test_none_and_decay_differ_from_the_same_start(few):
    recipe = next(r for r in PAPER if (r.network, r.method, r.case) == ("VGG16", "Adam", "BN"))
    without, with_decay = (measure(**small(recipe.settings(decays)), seed=0) for decays in (False, True))
    assert with_decay["norm"] < without["norm"]


def test_a_workload_names_its_network():
    assert isinstance(build(noise(), "VGG16", width=1 / 32), VGG)
    augmented = build(noise(), "ResNet32", width=1, augmented=True)
    assert isinstance(augmented, Augmented) and isinstance(augmented.model, ResNet)
    with pytest.raises(ValueError, match="network must be one of VGG16, ResNet32: got 'LeNet'"):
        build(noise(), "LeNet")


def test_a_run_of_the_paper_decides_the_claim_on_its_table(tmp_path, monkeypatch):
    """Not attempted until it is run; breaks if no claim reads what a week of a GPU computes."""
    assert claims.cifar_table.judge("paper")["verdict"] == claims.cifar_table.judge("laptop")["verdict"]
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path))
    measured = dict.fromkeys(MEASURED, 0.5) | {"diverged": False}
    finished = []
    for cell in runs.networks.declared("paper"):
        gain = 0.0 if cell["decay"] == "none" else 0.1 if cell["method"].startswith("K-FAC") else 0.05
        answer = cell | measured | {"test_accuracy": 0.7 + gain + 0.001 * cell["seed"] * (gain > 0)}
        finished.append((cell, [{name: answer[name] for name in runs.networks.columns}], 0.1, ["noise"]))
    runs.networks._save("paper", finished)
    found = claims.cifar_table.judge("paper")
    assert found["verdict"] == "agrees" and found["tables"] == ["networks"]
    assert found["ours"]["K-FAC-G"]["mean"] == pytest.approx(10.1)
    assert claims.first_and_second_order.judge("paper")["tables"] == ["networks"]
