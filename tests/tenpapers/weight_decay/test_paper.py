"""The paper's runs, shortened: the same code with a few images, few channels, and one epoch."""

import numpy as np
import pytest
import torch
from torch import nn

from nnlib.training import Dataset, Split
from nnlib.weight_decay import METHODS, make_optimizer
from tenpapers.runs import recorded, sweep, table
from tenpapers.weight_decay import PAPER, run_paper, train
from tenpapers.weight_decay.paper import Augmented, crop_and_flip, paper_row
from tenpapers.weight_decay.train import MEASURED, standardise
from tests.oracles import weight_decay as oracle


def images(n=16, classes=10):
    """A stand-in for CIFAR-10: coloured noise whose mean depends on the class."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    x = torch.rand(n, 3, 32, 32, generator=generator) + 0.1 * y[:, None, None, None]
    split = Split(x, y)
    return Dataset(split, split, split, {"classes": list(range(classes)), "shape": (3, 32, 32)}, "noise", "none")


DATA = images()


def test_recipes_cover_the_table_two_networks_four_methods_three_cases():
    keys = {(recipe.network, recipe.method, recipe.case) for recipe in PAPER}
    assert len(keys) == len(PAPER) == 24 and {recipe.method for recipe in PAPER} == set(METHODS)
    for recipe in PAPER:
        kfac = recipe.method.startswith("K-FAC")
        assert (recipe.epochs, recipe.drops) == ((100, (40, 80)) if kfac else (200, (60, 120, 180)))
        assert (recipe.kl_clip is not None) == (kfac and recipe.case == "plain")
    assert {recipe.damping for recipe in PAPER if recipe.case != "plain"} == {1e-3}


def small(recipe):
    """Arguments that shrink a run to a second."""
    size = {"width": 1 / 32, "depth": 11} if recipe.network == "VGG16" else {"width": 1, "depth": 8}
    return size | {"epochs": 1, "batch_size": 8}


@pytest.mark.parametrize("recipe", PAPER, ids=lambda r: f"{r.network}-{r.method}-{r.case}")
def test_each_recipe_runs_shortened_through_the_same_code(recipe):
    row = run_paper(recipe, DATA, **small(recipe))
    assert set(row) == {*MEASURED, "diverged"} and not row["diverged"]
    assert all(torch.isfinite(torch.tensor(row[name])) for name in MEASURED)


def test_vgg16_and_resnet32_run_at_their_own_depth():
    for network in ("VGG16", "ResNet32"):
        recipe = next(r for r in PAPER if (r.network, r.method, r.case) == (network, "K-FAC-G", "BN + augmentation"))
        width = 1 / 32 if network == "VGG16" else 1
        few = Split(DATA.train.x[:8], DATA.train.y[:8])
        data = Dataset(few, few, few, DATA.info, "noise", "none")
        assert not run_paper(recipe, data, width=width, epochs=1, batch_size=8)["diverged"]


def test_a_shortened_run_of_the_paper_profile_is_swept_and_recorded(tmp_path, monkeypatch):
    """What the notebook does under the profile paper, with CIFAR-10's file format and few images."""
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path))
    monkeypatch.setenv("NNLIB_RECORD", "1")
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(40) % 10
    np.savez(tmp_path / "cifar10.npz", x_train=pixels, y_train=labels, x_test=pixels[:10], y_test=labels[:10])
    chosen = [0, 13]  # a VGG and a ResNet
    cells = [{"recipe": i, "decay": "none", "seed": 0} | small(PAPER[i]) for i in chosen]
    config = {"seeds": [0]}
    frame = table("weight_decay", "cifar10", lambda: sweep(paper_row, cells), "paper", data="noise", config=config)
    assert frame.error.isna().all() and set(frame.network) == {"VGG16", "ResNet32"}
    assert recorded("weight_decay")["tables"]["cifar10"]["paper"]["config"] == config


def test_none_and_decay_differ_from_the_same_start():
    recipe = next(r for r in PAPER if (r.network, r.method, r.case) == ("VGG16", "Adam", "BN"))
    without, with_decay = (run_paper(recipe, DATA, decay, **small(recipe)) for decay in ("none", "decoupled"))
    assert with_decay["norm"] < without["norm"]


def test_crop_and_flip_is_a_shift_and_a_mirror_of_each_image():
    """Against the loop over pixels, for every image with its own draw."""
    x = torch.arange(6 * 2 * 5 * 5, dtype=torch.float64).view(6, 2, 5, 5) + 1
    generator = torch.Generator().manual_seed(3)
    found = crop_and_flip(x, 2, generator)
    generator = torch.Generator().manual_seed(3)
    top, left = torch.randint(5, (2, 6), generator=generator)
    mirrored = torch.rand(6, generator=generator) < 0.5
    assert mirrored.any() and not mirrored.all() and len(set(top.tolist())) > 1
    for i in range(6):
        expected = oracle.shifted_and_mirrored(x[i], 2, int(top[i]), int(left[i]), bool(mirrored[i]))
        assert torch.equal(found[i], expected)


def test_images_are_augmented_in_training_only_and_differently_each_time():
    model = Augmented(nn.Identity(), pad=4, seed=1)
    x = DATA.train.x
    first, second = model(x), model(x)
    assert not torch.equal(first, x) and not torch.equal(first, second)
    assert torch.equal(model.eval()(x), x)
    again = Augmented(nn.Identity(), pad=4, seed=1)
    assert torch.equal(again(x), first)
    other = Augmented(nn.Identity(), pad=4, seed=1)
    other.load_state_dict(again.state_dict())
    assert torch.equal(other(x), second)


def test_an_augmented_run_goes_on_with_the_images_it_would_have_seen(tmp_path):
    """Breaks if the number of batches seen is not part of a checkpoint."""
    data = standardise(DATA)

    def run(path, breaks_at=None):
        looks = []

        def watch(_):
            looks.append(1)
            if len(looks) == breaks_at:
                raise KeyboardInterrupt
            return {}

        torch.manual_seed(0)
        model = Augmented(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), seed=2)
        settings = {"epochs": 3, "batch_size": 8, "watch": watch, "checkpoint": path, "checkpoint_every": 2}
        train(model, data, make_optimizer(model, "SGD", 0.01), **settings)
        return model.model[1].weight.detach()

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken.pt", breaks_at=3)
    assert torch.equal(run(tmp_path / "broken.pt"), whole)


def test_negative_padding_is_refused():
    with pytest.raises(ValueError, match="pad must not be negative: got -1"):
        Augmented(nn.Identity(), pad=-1)
