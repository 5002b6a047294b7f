"""Each column is what it says; the paper's profile runs, shortened."""

import pytest
import torch

from nnlib.natural_gradient import TwoLayer, infinite_gram, stable_lr, train
from tenpapers.natural_gradient import (
    measure_conditioning,
    measure_noise,
    measure_pair,
    measure_run,
    sphere,
)


def test_columns_of_a_run_are_those_of_train():
    x, y, *_ = sphere(24, 10, seed=2)
    net = TwoLayer(10, 128, seed=2, dtype=torch.float64)
    run = train(net, x, y, "GD", 0.5 * stable_lr(net, x), 6)
    row = measure_run("sphere", 24, "GD", 128, 0.5, 6, seed=2)
    left = run.distance(y)
    assert row["kept"] == pytest.approx(float((left[-1] / left[0]) ** 2))
    assert row["first"] == pytest.approx(float(left[1] / left[0]))
    assert row["slowest"] == pytest.approx(float((left[1:] / left[:-1]).max()))
    assert row["constant"] == pytest.approx(float(run.constant.max()))
    assert row["limit"] == pytest.approx(float(torch.linalg.eigvalsh(infinite_gram(x))[0]))
    assert row["drift"] == pytest.approx(abs(float(run.smallest[0]) / row["limit"] - 1))
    assert row["detour"] == pytest.approx(run.detour())


def test_bound_is_judged_at_every_step():
    """The natural gradient stays within (1 - lr)^k on a wide network; gradient descent does not."""
    assert measure_run("sphere", 24, "Natural gradient", 2048, 0.3, 12)["within"]
    assert not measure_run("sphere", 24, "GD", 2048, 0.3, 12)["within"]


def test_ratios_of_rounding_errors_are_left_out():
    """With lr 1 the residual is rounding after five steps, where a ratio of two says nothing."""
    assert measure_run("sphere", 24, "Natural gradient", 2048, 1.0, 12)["slowest"] < 0.5


def test_pair_column_follows_the_two_close_points():
    """At a wide angle the pair parts as fast as the rest, at a small one much later."""
    wide = measure_conditioning(1.0, "Natural gradient", 1024, 0.3, 6)
    close = measure_conditioning(0.01, "Natural gradient", 1024, 0.3, 6)
    assert close["limit"] < 0.05 * wide["limit"]
    assert wide["pair"] == pytest.approx(0.7**6, rel=0.2) and close["pair"] > 3 * wide["pair"]


def test_flipped_labels_are_fitted_and_raise_the_complexity():
    clean, noisy = (measure_noise("digits", 60, share, 4096) for share in (0.0, 0.3))
    assert clean["left"] < 0.01 and noisy["left"] < 0.01
    assert noisy["complexity"] > 2 * clean["complexity"] and noisy["network_error"] > clean["network_error"]


def test_easier_pairs_have_a_smaller_complexity():
    easy, hard = (measure_pair("digits", *classes, 60) for classes in ((0, 1), (4, 9)))
    assert easy["complexity"] < hard["complexity"] and easy["bound"] < hard["bound"]


def test_unknown_data_are_refused():
    with pytest.raises(ValueError, match="data must be one of sphere, digits, mnist: got 'cifar'"):
        measure_run("cifar", 10, "GD", 8, 0.1, 1)
    with pytest.raises(ValueError, match="unknown data set"):
        measure_pair("cifar", 0, 1, 10)


def test_the_papers_sizes_run_shortened():
    """``profile="paper"`` goes through the same functions with a device: two steps each."""
    options = {"device": "cpu", "seed": 0}
    assert measure_run("mnist", 60, "Natural gradient", 256, 0.3, 2, **options)["first"] < 1
    assert measure_conditioning(0.1, "K-FAC", 256, 0.3, 2, **options)["kept"] < 1
    assert measure_noise("mnist", 60, 0.1, 256, steps=2, **options)["left"] > 0
    assert measure_pair("mnist", 0, 1, 60, **options)["bound"] > 0
