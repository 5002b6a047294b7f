"""The regression sets: standard splits, scaling, and what is said of them."""

import numpy as np
import pytest
import torch

from tenpapers.data import load
from tenpapers.data.uci import TABLES, permutation

HERE = ["boston", "concrete", "diabetes"]


@pytest.mark.parametrize("name", HERE)
def test_training_parts_are_standardised_and_parts_add_up(name):
    for split in (0, 19):
        data = load(name, split=split)
        n = len(data.train.y) + len(data.test.y)
        assert len(data.train.y) == round(0.9 * n) and len(data.validation.y) == 0 and data.train.y.shape[1] == 1
        torch.testing.assert_close(data.train.y.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
        torch.testing.assert_close(data.train.x.var(0, correction=0), torch.ones(data.train.x.shape[1]))
        assert data.info["y_scale"] > 0 and f"split {split} of 20" in data.source


def test_a_split_is_the_kth_permutation_after_seed_one():
    np.random.seed(1)  # noqa: NPY002
    orders = [np.random.choice(range(506), 506, replace=False) for _ in range(3)]  # noqa: NPY002
    for split, order in enumerate(orders):
        assert permutation(506, split).tolist() == order.tolist()


def test_targets_come_back_in_their_own_units():
    data = load("boston")
    y = data.test.y * data.info["y_scale"] + data.info["y_mean"]
    assert 5 <= float(y.min()) and float(y.max()) <= 50.001  # thousands of dollars, capped at 50


def test_unknown_splits_and_absent_files_are_named(monkeypatch):
    monkeypatch.delenv("NNLIB_DATA", raising=False)
    with pytest.raises(ValueError, match="splits 0 to 19"):
        load("concrete", split=20)
    with pytest.raises(FileNotFoundError, match=r"uci9\.npz"):
        load("yacht")
    assert all(table.licence for table in TABLES.values())


def test_a_file_of_the_documented_format_is_read(tmp_path, monkeypatch):
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.savez(tmp_path / "uci9.npz", **{"yacht/x": x, "yacht/y": x[:, 0]})
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    assert load("yacht", split=3).train.x.shape == (18, 2)
