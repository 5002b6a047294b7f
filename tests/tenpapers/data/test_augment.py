"""Augmentation on the tensors: a shift and a mirror for each image, in training only, and after an interruption."""

import pytest
import torch
from torch import nn

from nnlib.weight_decay import make_optimizer
from tenpapers.data.augment import Augmented, crop_and_flip
from tenpapers.weight_decay.measure import train
from tenpapers.weight_decay.workloads import standardise
from tests.oracles import weight_decay as oracle
from tests.tenpapers.weight_decay.noise import noise


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
    x = noise().train.x
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
    data = standardise(noise())

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


def test_images_stay_where_they_are():
    """Breaks if a tensor is made without a device."""
    x, found = torch.linspace(-1, 1, 3 * 64).sin().view(3, 1, 8, 8), []
    for where in ("cpu", "meta"):
        with torch.device(where):
            found.append(Augmented(nn.Identity(), pad=1)(x))
    assert torch.equal(*found)


def test_negative_padding_is_refused():
    with pytest.raises(ValueError, match="pad must not be negative: got -1"):
        Augmented(nn.Identity(), pad=-1)
