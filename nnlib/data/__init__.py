"""Data sets by name, each cut into training, validation and test, each saying what was really loaded.

``load(name)`` is the only door; the files, their terms and the formats that ``$NNLIB_DATA`` may hold are described
in ``book/data.md``.
"""

from typing import Any

from nnlib.data.cifar import cifar10
from nnlib.data.dataset import Dataset, Split
from nnlib.data.images import digits, fashion_mnist, mnist

__all__ = ["Dataset", "Split", "load"]

LOADERS = {"digits": digits, "mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10}


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name.

    ``digits`` comes with scikit-learn and takes no option. ``mnist`` and ``fashion_mnist`` are looked for in this
    order: the file ``$NNLIB_DATA/<name>.npz`` (arrays ``x_train y_train x_test y_test``, uint8 images of 28 x 28);
    then, with ``download=True``, OpenML; then the small file inside the package. ``vendored=True`` goes straight to
    the last, so that a page's text does not depend on the machine that runs it. ``cifar10`` has no file in the package:
    it is looked for as ``$NNLIB_DATA/cifar10.npz`` (uint8 images of 32 x 32 x 3), then as
    ``$NNLIB_DATA/cifar10_jpeg_10k2k.zip``, then, with ``download=True``, at OpenML.

    Args:
        name: ``digits``, ``mnist``, ``fashion_mnist`` or ``cifar10``.
        options: ``vendored`` and ``download``, both False by default, for ``mnist`` and ``fashion_mnist``;
            ``download`` for ``cifar10``.

    Returns:
        A :class:`Dataset`; images have shape (n, channels, height, width), dtype float32 and values in [0, 1].

    Raises:
        ValueError: for a name or a file that this function does not know how to read.
        FileNotFoundError: for a set that can't be had without ``$NNLIB_DATA`` or ``download=True``.

    Chapter: ``book/nqm.ipynb``.

    >>> data = load("mnist", vendored=True)
    >>> data.source
    "MNIST, 10,000 of the 60,000 training images, split 8,000/1,000/1,000, from the package's mnist10k.npz"
    >>> tuple(data.train.x.shape)
    (8000, 1, 28, 28)
    """
    if name not in LOADERS:
        raise ValueError(f"unknown data set {name!r}: known are {', '.join(LOADERS)}")
    return LOADERS[name](**options)
