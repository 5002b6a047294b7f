"""CIFAR-10: small colour photographs in ten classes. Chapter: ``book/weight_decay.ipynb``."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import fetch_openml

from nnlib.training import Dataset, Split
from tenpapers.data.images import own_folder, read

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NPZ, JPEGS = "cifar10.npz", "cifar10_jpeg_10k2k.zip"


def cifar10(*, download: bool = False) -> Dataset:
    """CIFAR-10, 32 x 32 pixels, three channels: see :func:`tenpapers.data.load` for where it is looked for."""
    own = own_folder()
    lossy = ""
    if own and (own / NPZ).exists():
        arrays, origin = read(own / NPZ, (32, 32, 3)), f"$NNLIB_DATA/{NPZ}"
    elif own and (own / JPEGS).exists():
        arrays, origin = _decode(own / JPEGS), f"$NNLIB_DATA/{JPEGS}"
        lossy = " as JPEG (lossy)"
    elif download:
        arrays, origin = _download(), "OpenML"
    else:
        raise FileNotFoundError(
            'CIFAR-10 does not come with the package: tenpapers.data.load("cifar10", download=True) fetches it, '
            f"or put {NPZ} into the folder that NNLIB_DATA names"
        )
    n, n_test = len(arrays["y_train"]), len(arrays["y_test"])
    n_validation = n // 10  # the paper's 5,000 of 50,000
    sizes = (n - n_validation, n_validation, n_test)
    full = (n, n_test) == (50_000, 10_000)
    what = "all 60,000 images" if full else f"{n:,} training and {n_test:,} test images of 50,000 and 10,000"
    x = np.concatenate([arrays["x_train"], arrays["x_test"]])  # (n, 32, 32, 3)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(torch.float32) / 255  # (n, 3, 32, 32)
    labels = torch.from_numpy(np.concatenate([arrays["y_train"], arrays["y_test"]])).long()
    train, validation, test = (Split(*pair) for pair in zip(images.split(sizes), labels.split(sizes), strict=True))
    return Dataset(
        train,
        validation,
        test,
        info={"classes": CLASSES, "shape": (3, 32, 32), "scaling": "pixels / 255, in [0, 1]"},
        source=f"CIFAR-10, {what}{lossy}, split " + "/".join(f"{s:,}" for s in sizes) + f", from {origin}",
        licence="none stated; A. Krizhevsky, V. Nair and G. Hinton, University of Toronto, ask for a citation",
    )


def _decode(path: Path) -> dict[str, np.ndarray]:
    """Images ``<part>/<class>/<number>.jpg`` of a zip file, each part shuffled once and for all."""
    arrays = {}
    with zipfile.ZipFile(path) as file:
        names = [name for name in sorted(file.namelist()) if name.endswith(".jpg")]
        for part in ("train", "test"):
            mine = [name for name in names if name.split("/")[0] == part]
            if not mine or not {name.split("/")[1] for name in mine} <= set(CLASSES):
                raise ValueError(f"{path} must hold {part}/<class>/<number>.jpg with the classes {', '.join(CLASSES)}")
            mine = [mine[i] for i in np.random.default_rng(0).permutation(len(mine))]  # the file goes class by class
            arrays[f"x_{part}"] = np.stack([_pixels(file.read(name)) for name in mine])
            arrays[f"y_{part}"] = np.array([CLASSES.index(name.split("/")[1]) for name in mine])
    return arrays


def _pixels(jpeg: bytes) -> np.ndarray:
    """(32, 32, 3), uint8."""
    try:
        from PIL import Image  # only this one format needs it
    except ImportError as error:
        raise ImportError(f"to read {JPEGS}, install Pillow: python -m pip install pillow") from error
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def _download() -> dict[str, np.ndarray]:
    """The full set from OpenML; scikit-learn verifies the checksum and keeps it on disk."""
    bunch: Any = fetch_openml("CIFAR_10", version=1, as_frame=False, parser="auto")
    if bunch.data.shape != (60_000, 3072):
        raise ValueError(f"OpenML's CIFAR_10 should have 60,000 rows of 3,072 numbers: got {bunch.data.shape}")
    x, y = bunch.data, bunch.target.astype(np.int64)
    if (np.bincount(y[50_000:], minlength=10) != 1000).any():  # so it is in the official split
        raise ValueError("the last 10,000 rows of OpenML's CIFAR_10 should be the test images, 1,000 of each class")
    x = x.astype(np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # a row is red, then green, then blue
    return {"x_train": x[:50_000], "y_train": y[:50_000], "x_test": x[50_000:], "y_test": y[50_000:]}
