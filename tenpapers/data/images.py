"""Which small images are there to classify? Digits, MNIST, Fashion-MNIST. Chapter: ``book/nqm.ipynb``."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import fetch_openml, load_digits

from nnlib.training import Dataset, Split

FILES = Path(__file__).parent / "files"


def digits() -> Dataset:
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, shuffled once and for all, 1,400 for training."""
    bunch: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))  # the file goes writer by writer
    x = torch.from_numpy(bunch.images[order]).to(torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8)
    y = torch.from_numpy(bunch.target[order]).long()
    train, validation, test = (
        Split(*pair) for pair in zip(x.split((1400, 197, 200)), y.split((1400, 197, 200)), strict=True)
    )
    return Dataset(
        train,
        validation,
        test,
        info={"classes": [str(i) for i in range(10)], "shape": (1, 8, 8), "scaling": "pixels / 16, in [0, 1]"},
        source="digits of scikit-learn, all 1,797 images, split 1,400/197/200",
        licence="CC BY 4.0, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository",
    )


class Family(NamedTuple):
    """What differs between the sets in MNIST's format."""

    name: str
    openml: str
    vendored: str
    classes: list[str]
    licence: str


MNIST = Family(
    "MNIST",
    "mnist_784",
    "mnist10k.npz",
    [str(i) for i in range(10)],
    "CC BY-SA 3.0, Y. LeCun and C. Cortes",
)
FASHION_MNIST = Family(
    "Fashion-MNIST",
    "Fashion-MNIST",
    "fashion_mnist_5k.npz",
    ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"],
    "MIT, copyright 2017 Zalando SE",
)


def mnist(*, vendored: bool = False, download: bool = False) -> Dataset:
    """MNIST, 28 x 28 pixels: see :func:`tenpapers.data.load` for where it is looked for."""
    return _mnist_like(MNIST, "mnist", vendored, download)


def fashion_mnist(*, vendored: bool = False, download: bool = False) -> Dataset:
    """Fashion-MNIST, 28 x 28 pixels: see :func:`tenpapers.data.load` for where it is looked for."""
    return _mnist_like(FASHION_MNIST, "fashion_mnist", vendored, download)


def _mnist_like(family: Family, key: str, vendored: bool, download: bool) -> Dataset:
    if vendored and download:
        raise ValueError("vendored=True reads the small file of the package, download=True the full set: choose one")
    own = own_folder()
    if not vendored and own and (own / f"{key}.npz").exists():
        arrays, origin = read(own / f"{key}.npz"), f"$NNLIB_DATA/{key}.npz"
    elif download:
        arrays, origin = _download(family), "OpenML"
    else:
        arrays, origin = read(FILES / family.vendored), f"the package's {family.vendored}"
    if origin.endswith(MNIST.vendored):  # its 10,000 images are all from the training set
        sizes, what = (8000, 1000, 1000), "10,000 of the 60,000 training images"
    else:
        n, n_test = len(arrays["y_train"]), len(arrays["y_test"])
        n_validation = n_test if n >= 2 * n_test else n // 5
        sizes = (n - n_validation, n_validation, n_test)
        full = (n, n_test) == (60_000, 10_000)
        what = "all 70,000 images" if full else f"{n:,} training and {n_test:,} test images of 60,000 and 10,000"
    x = np.concatenate([arrays[k] for k in ("x_train", "x_test") if k in arrays])
    y = np.concatenate([arrays[k] for k in ("y_train", "y_test") if k in arrays])
    images = torch.from_numpy(x).to(torch.float32).unsqueeze(1) / 255  # (n, 1, 28, 28)
    labels = torch.from_numpy(y).long()
    train, validation, test = (Split(*pair) for pair in zip(images.split(sizes), labels.split(sizes), strict=True))
    return Dataset(
        train,
        validation,
        test,
        info={"classes": family.classes, "shape": (1, 28, 28), "scaling": "pixels / 255, in [0, 1]"},
        source=f"{family.name}, {what}, split " + "/".join(f"{s:,}" for s in sizes) + f", from {origin}",
        licence=family.licence,
    )


def own_folder() -> Path | None:
    """The reader's own folder of data, where there is one."""
    own = os.environ.get("NNLIB_DATA")
    if own and not Path(own).is_dir():
        raise FileNotFoundError(f"NNLIB_DATA must name an existing folder: got {own!r}")
    return Path(own) if own else None


def read(path: Path, shape: tuple[int, ...] = (28, 28)) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, with what would break later refused here, by name."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    if path.parent == FILES and path.name == MNIST.vendored:
        arrays = {"x_train": arrays["x"], "y_train": arrays["y"]}
    elif missing := {"x_train", "y_train", "x_test", "y_test"} - set(arrays):
        raise ValueError(f"{path} must hold x_train, y_train, x_test and y_test: {', '.join(sorted(missing))} missing")
    for part in ("train", "test"):
        if f"x_{part}" in arrays:
            check(arrays[f"x_{part}"], arrays[f"y_{part}"], shape, f"{path}, {part}")
    return arrays


def check(x: np.ndarray, y: np.ndarray, shape: tuple[int, ...], where: str) -> None:
    """Refuse arrays that are not images of this shape, uint8, with a label in 0..9 each."""
    if x.dtype != np.uint8 or x.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{where}: images must be uint8 of shape (n, {wanted}): got {x.dtype} of shape {x.shape}")
    if y.shape != x.shape[:1] or not len(y) or not np.isin(y, range(10)).all():
        raise ValueError(f"{where}: labels must be {len(x)} integers in 0..9: got shape {y.shape}")


def _download(family: Family) -> dict[str, np.ndarray]:
    """The full set from OpenML, in the official order; scikit-learn verifies the checksum and keeps it on disk."""
    bunch: Any = fetch_openml(family.openml, version=1, as_frame=False, parser="auto")
    if bunch.data.shape != (70_000, 784):
        raise ValueError(f"OpenML's {family.openml} should have 70,000 rows of 784 pixels: got {bunch.data.shape}")
    x, y = bunch.data.astype(np.uint8).reshape(-1, 28, 28), bunch.target.astype(np.int64)
    check(x, y, (28, 28), f"OpenML's {family.openml}")
    return {"x_train": x[:60_000], "y_train": y[:60_000], "x_test": x[60_000:], "y_test": y[60_000:]}
