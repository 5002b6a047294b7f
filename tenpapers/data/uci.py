"""Which small regression sets are there, and how were they split? Nine of UCI with their standard splits, diabetes.

Split k is the (k+1)-th permutation that NumPy's generator draws after ``seed(1)``; its first 90 % are for training.
This is how the published index files were made, so that numbers of many papers can be set beside each other.
Chapter: ``book/noisy_ekfac.ipynb``.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_diabetes

from nnlib.training import Dataset, Split
from tenpapers.data.images import FILES, own_folder

UCI = "UCI Machine Learning Repository, CC BY 4.0"


class Table(NamedTuple):
    """What is known of a set: its title, its key in ``uci9.npz``, the file in the package if any, its terms."""

    title: str
    key: str
    vendored: str | None
    licence: str
    splits: int = 20
    remark: str = ""


TABLES = {
    "boston": Table(
        "Boston housing", "bostonHousing", "boston.csv", "StatLib, no terms stated; D. Harrison and D. Rubinfeld 1978",
        remark="column b is built from the share of Black residents, for which scikit-learn dropped the set",
    ),
    "concrete": Table("Concrete strength", "concrete", "concrete.csv", f"{UCI}; I-C. Yeh 1998"),
    "energy": Table("Energy efficiency (heating load)", "energy", None, f"{UCI}; A. Tsanas and A. Xifara 2012"),
    "kin8nm": Table("Kin8nm", "kin8nm", None, "Delve, University of Toronto"),
    "naval": Table("Naval propulsion", "naval-propulsion-plant", None, f"{UCI}; A. Coraddu et al. 2014"),
    "power": Table("Power plant", "power-plant", None, f"{UCI}; P. Tufekci and H. Kaya 2014"),
    "protein": Table("Protein tertiary structure", "protein-tertiary-structure", None, f"{UCI}; P. Rana 2013", 5),
    "wine": Table(
        "Wine quality (red)", "wine-quality-red", None, f"{UCI}; P. Cortez et al. 2009",
        remark="1,359 of its rows are distinct, so some test rows are training rows too",
    ),
    "yacht": Table("Yacht hydrodynamics", "yacht", None, f"{UCI}; J. Gerritsma et al. 1981"),
    "diabetes": Table("Diabetes", "", None, "BSD 3-Clause, with scikit-learn; B. Efron et al. 2004"),
}  # fmt: skip


def regression(name: str, *, split: int = 0) -> Dataset:
    """A regression set, inputs and targets standardised by mean and standard deviation of its training part.

    ``validation`` is empty: the standard protocol has none. ``info`` holds ``features`` (names or numbers), ``shape``,
    ``scaling`` in words, ``y_mean`` and ``y_scale`` (to come back to the data's own units) and ``remark``.

    Args:
        name: A key of ``TABLES``.
        split: 0 to 19; 0 to 4 for ``protein``.

    Raises:
        ValueError: for a split that the set does not have.
        FileNotFoundError: for a set that is not in the package, without ``$NNLIB_DATA/uci9.npz``.
    """
    table = TABLES[name]
    if not 0 <= split < table.splits:
        raise ValueError(f"{name} has the splits 0 to {table.splits - 1}: got {split}")
    x, y, features, origin = _read(name, table)
    n = len(y)
    order = permutation(n, split)
    k = round(0.9 * n)
    x_mean, x_scale = x[order[:k]].mean(0), x[order[:k]].std(0)
    x_scale[x_scale == 0] = 1  # a column that is constant in training says nothing
    y_mean, y_scale = y[order[:k]].mean(), y[order[:k]].std()
    x_all = torch.from_numpy((x - x_mean) / x_scale)[order].to(torch.float32)
    y_all = torch.from_numpy((y - y_mean) / y_scale)[order, None].to(torch.float32)  # (n, 1), as outputs are
    parts = zip(x_all.split((k, 0, n - k)), y_all.split((k, 0, n - k)), strict=True)
    train, validation, test = (Split(*part) for part in parts)
    info = {"features": features, "shape": (x.shape[1],), "y_mean": float(y_mean), "y_scale": float(y_scale)}
    info |= {"scaling": "mean 0 and variance 1 in the training part, inputs and targets", "remark": table.remark}
    source = f"{table.title}, {n:,} rows, standard split {split} of {table.splits} ({k:,}/{n - k:,}), from {origin}"
    return Dataset(train, validation, test, info=info, source=source, licence=table.licence)


def permutation(n: int, split: int) -> torch.Tensor:
    """The order of the rows in a standard split: the first ``round(0.9 n)`` are for training, the rest for testing.

    >>> permutation(10, 0).tolist()
    [2, 9, 6, 4, 0, 3, 1, 7, 8, 5]
    """
    state = np.random.RandomState(1)
    for _ in range(split + 1):
        order = state.choice(n, n, replace=False)
    return torch.from_numpy(order)


def _read(name: str, table: Table) -> tuple[np.ndarray, np.ndarray, list[str], str]:
    """Inputs (n, d), targets (n,), names of the inputs, and where they are from."""
    own = own_folder()
    if name == "diabetes":
        bunch: Any = load_diabetes()
        return bunch.data, bunch.target, list(bunch.feature_names), "scikit-learn"
    if table.vendored:  # the same rows as in the larger file, with names and more digits
        path = FILES / table.vendored
        rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float64)
        with path.open(encoding="utf-8") as file:
            features = file.readline().strip().split(",")[:-1]
        return rows[:, :-1], rows[:, -1], features, f"the package's {table.vendored}"
    if own is None or not (own / "uci9.npz").exists():
        raise FileNotFoundError(
            f"{name} is not in the package: put uci9.npz into the folder that NNLIB_DATA names "
            f"(arrays {table.key}/x and {table.key}/y; format in book/data.md)"
        )
    with np.load(own / "uci9.npz") as file:
        missing = [key for key in (f"{table.key}/x", f"{table.key}/y") if key not in file.files]
        if missing:
            raise ValueError(f"$NNLIB_DATA/uci9.npz must hold {' and '.join(missing)}")
        x, y = (file[f"{table.key}/{part}"].astype(np.float64) for part in ("x", "y"))
    if x.ndim != 2 or y.shape != x.shape[:1] or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            f"$NNLIB_DATA/uci9.npz: {table.key}/x must be (n, d) and {table.key}/y (n,), all finite: "
            f"got {x.shape} and {y.shape}"
        )
    return x, y, [str(i) for i in range(x.shape[1])], "$NNLIB_DATA/uci9.npz"


LOADERS = {name: partial(regression, name) for name in TABLES}
