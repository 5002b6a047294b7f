"""Tables for bandits: shapes, classes, and what is said where a file is missing or another."""

import pytest
import torch

from tenpapers.data import load


def test_shuttle_is_whole_standardised_and_has_its_seven_classes():
    data = load("shuttle")
    x = torch.cat([data.train.x, data.validation.x, data.test.x]).double()
    y = torch.cat([data.train.y, data.validation.y, data.test.y])
    assert x.shape == (58_000, 9)
    torch.testing.assert_close(x.mean(0), torch.zeros(9).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(x.std(0), torch.ones(9).double(), rtol=0, atol=1e-3)
    assert y.bincount(minlength=7).tolist() == [45_586, 50, 171, 8_903, 3_267, 10, 13]


def test_mushroom_without_its_file_says_which_file_and_where():
    with pytest.raises(FileNotFoundError, match=r"agaricus-lepiota\.data.*\$NNLIB_DATA"):
        load("mushroom")


def test_mushroom_of_a_small_file_has_an_indicator_for_each_category(tmp_path, monkeypatch):
    rows = [("e", "x", "s"), ("p", "b", "s"), ("e", "x", "y")] * 10
    text = "edibility,shape,surface\n" + "\n".join(",".join(row) for row in rows)
    (tmp_path / "agaricus-lepiota.data").write_text(text)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    data = load("mushroom")
    x, y = (torch.cat([getattr(part, which) for part in (data.train, data.validation, data.test)]) for which in "xy")
    assert x.shape == (30, 4) and bool((x.sum(1) == 2).all())
    assert y.sum() == 10
    assert bool((x[y == 1][:, 0] == 1).all())  # the poisonous ones have shape b


def test_mushroom_of_another_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "agaricus-lepiota.data").write_text("p,x\ne,b\n")
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="first column"):
        load("mushroom")
