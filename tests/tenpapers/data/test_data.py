"""Claims about ``tenpapers.data``: what is loaded is what is said, from the place that the contract names."""

import io
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nnlib.training import Dataset, Split
from tenpapers.data import cifar, images, load

OFFLINE = ["digits", "fashion_mnist", "mnist"]


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


@pytest.mark.parametrize("name", OFFLINE)
def test_no_image_is_in_two_splits(name):
    # A leak between training and test would make every recorded accuracy wrong.
    data = load(name)
    seen = [{x.numpy().tobytes() for x in split.x} for split in (data.train, data.validation, data.test)]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


@pytest.mark.parametrize("name", OFFLINE)
def test_labels_belong_to_their_images(name):
    # Images and labels shuffled apart would leave a nearest-class-mean classifier at chance (10 %).
    data = load(name)
    means = torch.stack([data.train.x[data.train.y == c].mean(0) for c in range(10)]).flatten(1)  # (10, pixels)
    nearest = torch.cdist(data.test.x.flatten(1), means).argmin(1)
    assert (nearest == data.test.y).float().mean() > 0.6


def test_loading_twice_gives_the_same_order():
    assert torch.equal(load("digits").train.x, load("digits").train.x)


def test_unknown_name_says_what_is_known():
    with pytest.raises(
        ValueError, match=r"unknown data set 'imagenet': known are digits, mnist, fashion_mnist, cifar10"
    ):
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


def cifar_arrays(train=50, test=10, **changes):
    """CIFAR-10 in the format of ``$NNLIB_DATA``, small enough for a test; ``changes`` spoil it."""
    draw = np.random.default_rng(0)
    return {
        "x_train": draw.integers(0, 256, (train, 32, 32, 3), dtype=np.uint8),
        "y_train": draw.integers(0, 10, train),
        "x_test": draw.integers(0, 256, (test, 32, 32, 3), dtype=np.uint8),
        "y_test": draw.integers(0, 10, test),
    } | changes


def test_own_cifar_comes_with_channels_first_and_a_tenth_for_validation(tmp_path, monkeypatch):
    # Fails if the axes are reshaped instead of moved, or training and test images are mixed.
    arrays = cifar_arrays()
    np.savez(tmp_path / "cifar10.npz", **arrays)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    data = load("cifar10")
    assert [len(s.y) for s in (data.train, data.validation, data.test)] == [45, 5, 10]
    assert data.info["shape"] == data.train.x.shape[1:] == (3, 32, 32)
    for channel in range(3):
        assert np.array_equal((data.test.x[:, channel] * 255).round().numpy(), arrays["x_test"][..., channel])
    assert np.array_equal(data.validation.y.numpy(), arrays["y_train"][45:])
    assert data.source == (
        "CIFAR-10, 50 training and 10 test images of 50,000 and 10,000, split 45/5/10, from $NNLIB_DATA/cifar10.npz"
    )


def write_zip(path, classes=cifar.CLASSES):
    """A zip of "JPEGs", each a text that the test's decoder understands."""
    with zipfile.ZipFile(path, "w") as file:
        for part, n in (("train", 2), ("test", 1)):
            for label, name in enumerate(classes):
                for i in range(n):
                    file.writestr(f"{part}/{name}/{i:04d}.jpg", f"{label} {part}")


def test_jpegs_are_shuffled_keep_their_labels_and_are_called_lossy(tmp_path, monkeypatch):
    # Fails if images are shuffled without labels, the file's order by class is kept, or the source hides the format.
    write_zip(tmp_path / "cifar10_jpeg_10k2k.zip")
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    monkeypatch.setattr(cifar, "_pixels", lambda raw: np.full((32, 32, 3), int(raw.split()[0]), np.uint8))
    data = load("cifar10")
    assert [len(s.y) for s in (data.train, data.validation, data.test)] == [18, 2, 10]
    for split in (data.train, data.validation, data.test):
        assert torch.equal((split.x[:, 0, 0, 0] * 255).round().long(), split.y)
    assert data.test.y.tolist() != sorted(data.test.y.tolist())
    assert "20 training and 10 test images of 50,000 and 10,000 as JPEG (lossy)" in data.source


def test_a_zip_of_other_classes_is_refused(tmp_path, monkeypatch):
    write_zip(tmp_path / "cifar10_jpeg_10k2k.zip", classes=["apple"])
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"train/<class>/<number>\.jpg with the classes airplane"):
        load("cifar10")


def test_jpegs_without_pillow_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        cifar._pixels(b"")


def test_jpeg_is_read_as_its_colours():
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (250, 120, 10)).save(buffer, "JPEG")
    pixels = cifar._pixels(buffer.getvalue())
    assert pixels.shape == (32, 32, 3) and np.abs(pixels.astype(int) - (250, 120, 10)).max() <= 4


def test_cifar_without_a_file_says_how_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r'load\("cifar10", download=True\)'):
        load("cifar10")
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="NNLIB_DATA must name an existing folder"):
        load("cifar10")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((50, 3, 32, 32), np.uint8)}, r"\(n, 32, 32, 3\): got uint8 of shape \(50, 3, 32, 32\)"),
        ({"x_test": np.zeros((10, 32, 32, 3))}, "got float64"),
        ({"y_train": np.full(50, 10)}, r"labels must be 50 integers in 0\.\.9"),
    ],
)
def test_own_cifar_in_another_format_is_refused_by_name(tmp_path, monkeypatch, changes, message):
    np.savez(tmp_path / "cifar10.npz", **cifar_arrays(**changes))
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        load("cifar10")


def test_own_cifar_with_a_missing_array_is_refused_by_name(tmp_path, monkeypatch):
    arrays = cifar_arrays()
    del arrays["y_test"]
    np.savez(tmp_path / "cifar10.npz", **arrays)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="y_test missing"):
        load("cifar10")


def cifar_reply(labels):
    """OpenML's rows: red, then green, then blue, 1,024 pixels each; a few pixels carry the row's number."""
    x = np.zeros((60_000, 3072), np.uint8)
    x[:, 0], x[:, 1024], x[:, 2048 + 33] = np.arange(60_000) % 256, 7, 9
    return SimpleNamespace(data=x, target=labels.astype(str).astype(object))


def test_cifar_from_openml_keeps_the_official_split_and_the_colours(monkeypatch):
    asked = []
    reply = cifar_reply(np.arange(60_000) % 10)
    monkeypatch.setattr(cifar, "fetch_openml", lambda name, **options: asked.append(name) or reply)
    data = load("cifar10", download=True)
    assert asked == ["CIFAR_10"]
    assert [len(s.y) for s in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    first = (data.test.x[0] * 255).round()
    assert first[0, 0, 0] == 50_000 % 256 and first[1, 0, 0] == 7 and first[2, 1, 1] == 9
    assert "all 60,000 images" in data.source and data.source.endswith("from OpenML")


def test_cifar_from_openml_in_another_order_is_refused(monkeypatch):
    # The only sign of another order that the data themselves give: the official test set has 1,000 of each class.
    monkeypatch.setattr(cifar, "fetch_openml", lambda *_, **__: cifar_reply(np.sort(np.arange(60_000) % 10)))
    with pytest.raises(ValueError, match="1,000 of each class"):
        load("cifar10", download=True)


def test_incomplete_cifar_from_openml_is_refused(monkeypatch):
    reply = SimpleNamespace(data=np.zeros((100, 3072)), target=np.zeros(100).astype(str))
    monkeypatch.setattr(cifar, "fetch_openml", lambda *_, **__: reply)
    with pytest.raises(ValueError, match="60,000 rows"):
        load("cifar10", download=True)
