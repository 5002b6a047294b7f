"""Dropout, noise and augmentations: means, masks, identities, and the strength of each example."""

import pytest
import torch

from nnlib.self_tuning import (
    ColorJitter,
    Cutout,
    Dropout,
    EmbeddingDropout,
    InputNoise,
    ScaleNoise,
    set_values,
)
from nnlib.self_tuning.augment import turn_hue

assert_close = torch.testing.assert_close
ALL = {
    "element": (Dropout("s"), (6, 3, 8, 8)),
    "channel": (Dropout("s", "channel"), (6, 3, 8, 8)),
    "variational": (Dropout("s", "variational"), (5, 6, 8)),
    "noise": (InputNoise("s"), (6, 3, 8, 8)),
    "scale": (ScaleNoise("s"), (6, 3, 8, 8)),
    "cutout": (Cutout("s", "s"), (6, 3, 8, 8)),
    "jitter": (ColorJitter("s", "s", "s", "s"), (6, 3, 8, 8)),
}


def drawn(layer, x, strength, seed=0):
    set_values(layer, {}, torch.Generator().manual_seed(seed))
    layer.setting.values = {"s": torch.as_tensor(strength, dtype=x.dtype)}
    return layer.train()(x)


def images(shape, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("kind", ALL)
def test_strength_zero_and_evaluation_mode_change_nothing(kind):
    layer, shape = ALL[kind]
    x = images(shape)
    assert_close(drawn(layer, x, 0.0), x)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("kind", ALL)
def test_each_example_has_its_own_strength(kind):
    layer, shape = ALL[kind]
    batch_dim = 1 if kind == "variational" else 0
    x = images(shape)
    strength = torch.tensor([0.0, 0.6] * 3) * (3 if kind == "cutout" else 1)
    moved = ((drawn(layer, x, strength) - x).abs() > 1e-12).transpose(0, batch_dim)
    changed = moved.flatten(1).any(1)
    assert not changed[0::2].any()
    assert changed[1::2].any()


@pytest.mark.parametrize("kind", ["element", "channel", "variational"])
def test_dropout_keeps_the_mean_and_drops_at_its_rate(kind):
    layer = ALL[kind][0]
    shape = (1, 400, 100) if kind == "variational" else (400, 100, 1, 1)
    y = drawn(layer, torch.ones(shape, dtype=torch.float64), 0.3)
    assert abs(float(y.mean()) - 1) < 0.02
    assert abs(float((y == 0).double().mean()) - 0.3) < 0.01


def test_masks_are_constant_over_what_the_kind_says():
    y = drawn(Dropout("s", "variational"), torch.ones(7, 4, 30), 0.5)
    assert torch.equal(y, y[:1].expand_as(y)) and 0 in y
    y = drawn(Dropout("s", "channel"), torch.ones(4, 30, 3, 3), 0.5)
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y)) and 0 in y


def test_embedding_dropout_drops_every_occurrence_of_a_word():
    ids = torch.arange(40).repeat(3, 1)
    layer = EmbeddingDropout("s", 40)
    set_values(layer, {"s": 0.5}, torch.Generator().manual_seed(0))
    y = layer.train()(ids, torch.ones(3, 40, 2))
    assert torch.equal(y, y[:1].expand_as(y)) and set(y.unique().tolist()) == {0.0, 2.0}


def test_cutout_sets_squares_of_its_length_to_zero():
    layer = Cutout("length", "holes")
    set_values(layer, {"length": 3, "holes": 1}, torch.Generator().manual_seed(0))
    gone = (layer.train()(torch.ones(200, 1, 9, 9)) == 0).sum((1, 2, 3))
    assert int(gone.max()) == 9 and int(gone.min()) >= 1  # a hole at the border is cut


def test_a_third_of_the_colour_circle_takes_red_to_green_and_greys_stay():
    red = torch.tensor([1.0, 0, 0], dtype=torch.float64).view(1, 3, 1, 1)
    third = torch.full((1, 1, 1, 1), 1 / 3, dtype=torch.float64)
    assert_close(turn_hue(red, third), red.roll(1, 1))
    grey = torch.full((1, 3, 2, 2), 0.4, dtype=torch.float64)
    assert_close(turn_hue(grey, third), grey)


def test_jitter_keeps_values_in_range_and_noise_has_its_deviation():
    y = drawn(ColorJitter("s", "s", "s", "s"), images((50, 3, 4, 4)), 0.9)
    assert float(y.min()) >= 0 and float(y.max()) <= 1
    assert abs(float(drawn(InputNoise("s"), torch.zeros(400, 50), 0.3).std()) - 0.3) < 0.01


def test_a_missing_value_is_named():
    with pytest.raises(ValueError, match="'s'"):
        Dropout("s").train()(torch.ones(2, 2))
