"""Data sets by name, each cut into training, validation and test, each saying what was really loaded.

``load(name)`` is the only door; the files, their terms and the formats that ``$NNLIB_DATA`` may hold are described
in ``book/data.md``.
"""

from typing import Any

from nnlib.training import Dataset, Split
from tenpapers.data.bandits import mushroom, shuttle
from tenpapers.data.cifar import cifar10
from tenpapers.data.images import digits, fashion_mnist, mnist
from tenpapers.data.series import airline, co2, sunspots
from tenpapers.data.sources import note, noted, remember
from tenpapers.data.text import decode, english_spanish, kjv, padded_batches, pride_prejudice, windows
from tenpapers.data.uci import LOADERS as TABLES

__all__ = ["Dataset", "Split", "decode", "load", "noted", "padded_batches", "remember", "windows"]

LOADERS = {
    "digits": digits,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "pride_prejudice": pride_prejudice,
    "kjv": kjv,
    "english_spanish": english_spanish,
    "co2": co2,
    "airline": airline,
    "sunspots": sunspots,
    "shuttle": shuttle,
    "mushroom": mushroom,
    **TABLES,  # boston concrete energy kin8nm naval power protein wine yacht diabetes
}


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name.

    ``digits`` comes with scikit-learn and takes no option. ``mnist`` and ``fashion_mnist`` are looked for in this
    order: the file ``$NNLIB_DATA/<name>.npz`` (arrays ``x_train y_train x_test y_test``, uint8 images of 28 x 28);
    then, with ``download=True``, OpenML; then the small file inside the package. ``vendored=True`` goes straight to
    the last, so that a page's text does not depend on the machine that runs it. ``cifar10`` has no file in the package:
    it is looked for as ``$NNLIB_DATA/cifar10.npz`` (uint8 images of 32 x 32 x 3), then as
    ``$NNLIB_DATA/cifar10_jpeg_10k2k.zip``, then, with ``download=True``, at OpenML.

    ``pride_prejudice`` and ``kjv`` are books, cut in the order of the text, 90 % for training: ``x`` are token ids
    (n,), int64, and ``y`` the ids that come next. ``english_spanish`` are pairs of verses, shuffled once and for all:
    ``x`` are English ids (n, S) that end with ``<eos>``, ``y`` Spanish ids (n, T) from ``<bos>`` to ``<eos>``, both
    padded with 0. ``tokens="characters"`` or ``"words"`` (lower case, marks apart) says what a token is;
    ``vocabulary`` is the number of ids, by default as many as there are tokens that occur twice in the training part;
    the others are ``<unk>``. ``info["vocabulary"]`` lists them, of pairs for ``english`` and ``spanish``.

    ``co2``, ``airline`` and ``sunspots`` are series, ``x`` in years (n, 1), cut in time's order; ``horizon`` is the
    number of years kept for testing. ``shuttle`` and ``mushroom`` are tables of standardised or indicator features
    (n, d) with a class each, shuffled; ``mushroom`` needs ``$NNLIB_DATA/agaricus-lepiota.data``.

    ``boston``, ``concrete``, ``energy``, ``kin8nm``, ``naval``, ``power``, ``protein``, ``wine``, ``yacht`` and
    ``diabetes`` are regression sets with the standard splits, ``split`` 0 to 19 (``protein`` 0 to 4): ``x`` (n, d) and
    ``y`` (n, 1) standardised by the training part, ``info["y_mean"]`` and ``info["y_scale"]`` to come back, and no
    validation part. All but ``boston``, ``concrete`` and ``diabetes`` need ``$NNLIB_DATA/uci9.npz``.

    Args:
        name: One of those above.
        options: ``vendored`` and ``download``, both False by default, for ``mnist`` and ``fashion_mnist``;
            ``download`` for ``cifar10``; ``tokens`` and ``vocabulary`` for texts; ``horizon`` for series; ``split`` for
            regression sets.

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
    >>> load("pride_prejudice", vocabulary=40).info["vocabulary"][:6]
    ['<unk>', ' ', 'e', 't', 'a', 'o']
    """
    if name not in LOADERS:
        raise ValueError(f"unknown data set {name!r}: known are {', '.join(LOADERS)}")
    data = LOADERS[name](**options)
    note(data.source)
    return data
