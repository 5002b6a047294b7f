"""Claims about ``nnlib.data``: what is loaded is what is said, from the place that the contract names."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nnlib.data import LOADERS, Dataset, Split, images, load


@pytest.fixture(autouse=True)
def no_own_folder(monkeypatch):
    monkeypatch.delenv("NNLIB_DATA", raising=False)


def write_own(folder, name="mnist", train=50, test=10, **changes):
    """A set in the format of ``$NNLIB_DATA``, small enough for a test; ``changes`` spoil it."""
    draw = np.random.default_rng(0)
    arrays = {
        "x_train": draw.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        "y_train": draw.integers(0, 10, train),
        "x_test": draw.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        "y_test": draw.integers(0, 10, test),
    } | changes
    np.savez(folder / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
    return arrays


@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [
        ("digits", (1400, 197, 200), (1, 8, 8)),
        ("mnist", (8000, 1000, 1000), (1, 28, 28)),
        ("fashion_mnist", (4000, 1000, 1000), (1, 28, 28)),
    ],
)
def test_every_set_has_the_shapes_range_and_classes_that_it_states(name, sizes, shape):
    # Fails if a split is lost or doubled, pixels are not scaled, or a class is absent from a split.
    data = load(name)
    assert isinstance(data, Dataset)
    for split, n in zip((data.train, data.validation, data.test), sizes, strict=True):
        assert split.x.shape == (n, *shape) and split.y.shape == (n,)
        assert split.x.dtype == torch.float32 and split.y.dtype == torch.int64
        assert split.x.min() == 0 and split.x.max() == 1
        assert set(split.y.tolist()) == set(range(len(data.info["classes"])))
    assert data.info["shape"] == shape
    assert "/".join(f"{n:,}" for n in sizes) in data.source
    assert data.licence


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_no_image_is_in_two_splits(name):
    # A leak between training and test would make every recorded accuracy wrong.
    data = load(name)
    seen = [{x.numpy().tobytes() for x in split.x} for split in (data.train, data.validation, data.test)]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_labels_belong_to_their_images(name):
    # Images and labels shuffled apart would leave a nearest-class-mean classifier at chance (10 %).
    data = load(name)
    means = torch.stack([data.train.x[data.train.y == c].mean(0) for c in range(10)]).flatten(1)  # (10, pixels)
    nearest = torch.cdist(data.test.x.flatten(1), means).argmin(1)
    assert (nearest == data.test.y).float().mean() > 0.6


def test_loading_twice_gives_the_same_order():
    assert torch.equal(load("digits").train.x, load("digits").train.x)


def test_unknown_name_says_what_is_known():
    with pytest.raises(ValueError, match=r"unknown data set 'imagenet': known are digits, mnist, fashion_mnist"):
        load("imagenet")


def test_own_folder_comes_before_the_vendored_file(tmp_path, monkeypatch):
    # Fails if the environment variable is ignored, or if training and test images are mixed.
    arrays = write_own(tmp_path)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    data = load("mnist")
    assert [len(s.y) for s in (data.train, data.validation, data.test)] == [40, 10, 10]
    assert np.array_equal((data.test.x * 255).round().numpy()[:, 0], arrays["x_test"])
    assert np.array_equal(data.validation.y.numpy(), arrays["y_train"][40:])
    assert data.source == (
        "MNIST, 50 training and 10 test images of 60,000 and 10,000, split 40/10/10, from $NNLIB_DATA/mnist.npz"
    )


def test_vendored_skips_the_own_folder(tmp_path, monkeypatch):
    # The quick profile relies on it: a page's text must not depend on the reader's machine.
    write_own(tmp_path)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    assert "mnist10k.npz" in load("mnist", vendored=True).source


def test_own_folder_without_the_file_falls_back_to_the_vendored_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    assert "fashion_mnist_5k.npz" in load("fashion_mnist").source


def test_missing_own_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="NNLIB_DATA must name an existing folder"):
        load("mnist")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "y_test missing"),
        ({"x_train": np.zeros((50, 784), np.uint8)}, r"uint8 of shape \(n, 28, 28\): got uint8 of shape \(50, 784\)"),
        ({"x_test": np.zeros((10, 28, 28))}, "got float64"),
        ({"y_train": np.zeros(49, int)}, "labels must be 50 integers"),
        ({"y_test": np.full(10, 10)}, r"integers in 0\.\.9"),
    ],
)
def test_own_file_in_another_format_is_refused_by_name(tmp_path, monkeypatch, changes, message):
    write_own(tmp_path, **changes)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        load("mnist")


@pytest.mark.parametrize(("name", "openml"), [("mnist", "mnist_784"), ("fashion_mnist", "Fashion-MNIST")])
def test_download_asks_openml_and_keeps_the_official_split(monkeypatch, name, openml):
    # OpenML stores 70,000 rows, the official test images last, and its labels as strings.
    asked = []

    def fetch(name, **options):
        asked.append((name, options))
        x = np.zeros((70_000, 784))
        x[:, 0] = np.arange(70_000) % 256
        return SimpleNamespace(data=x, target=(np.arange(70_000) % 10).astype(str).astype(object))

    monkeypatch.setattr(images, "fetch_openml", fetch)
    data = load(name, download=True)
    assert asked == [(openml, {"version": 1, "as_frame": False, "parser": "auto"})]
    assert [len(s.y) for s in (data.train, data.validation, data.test)] == [50_000, 10_000, 10_000]
    assert (data.test.x[:3, 0, 0, 0] * 255).round().tolist() == [(60_000 + i) % 256 for i in range(3)]
    assert data.test.y[:3].tolist() == [0, 1, 2]
    assert "all 70,000 images" in data.source and data.source.endswith("from OpenML")


def test_incomplete_download_is_refused(monkeypatch):
    reply = SimpleNamespace(data=np.zeros((69_999, 784)), target=np.zeros(69_999).astype(str))
    monkeypatch.setattr(images, "fetch_openml", lambda *_, **__: reply)
    with pytest.raises(ValueError, match="70,000 rows"):
        load("mnist", download=True)


def test_vendored_and_download_together_are_refused():
    with pytest.raises(ValueError, match="choose one"):
        load("mnist", vendored=True, download=True)


def test_to_changes_the_dtype_of_inputs_and_not_of_labels():
    split = Split(torch.ones(3, 2), torch.tensor([0, 1, 2])).to(dtype=torch.float64)
    assert split.x.dtype == torch.float64 and split.y.dtype == torch.int64
    assert load("digits").to(device="meta").test.y.device.type == "meta"
