"""Which tables make a contextual bandit? Statlog Shuttle and mushrooms. Chapter: ``book/functional_bnn.ipynb``."""

import numpy as np
import pandas as pd
import torch

from nnlib.training import Dataset, Split
from tenpapers.data.images import FILES, own_folder

SHUTTLE = ["Rad.Flow", "Fpv.Close", "Fpv.Open", "High", "Bypass", "Bpv.Close", "Bpv.Open"]
MUSHROOM_FILE = "agaricus-lepiota.data"


def shuttle() -> Dataset:
    """The 58,000 rows of Statlog Shuttle, nine features standardised over all rows, seven classes, shuffled."""
    frame = pd.read_csv(FILES / "shuttle.csv.xz")
    x = frame.drop(columns="Class").to_numpy(dtype=float)
    x = (x - x.mean(0)) / x.std(0)
    y = frame["Class"].map({name: label for label, name in enumerate(SHUTTLE)}).to_numpy()
    return _classes(
        x,
        y,
        SHUTTLE,
        "standardised",
        "Statlog Shuttle, all 58,000 rows",
        "from the package's shuttle.csv.xz",
        "CC BY 4.0, UCI Machine Learning Repository, Statlog (Shuttle)",
    )


def mushroom() -> Dataset:
    """The 8,124 mushrooms, 22 categories as 117 indicators, edible (0) or poisonous (1), shuffled.

    Raises:
        FileNotFoundError: where ``$NNLIB_DATA`` has no ``agaricus-lepiota.data``.
        ValueError: where the file's first column is not ``edibility`` or ``class``, with values ``e`` and ``p``.
    """
    own = own_folder()
    path = own / MUSHROOM_FILE if own else None
    if path is None or not path.exists():
        raise FileNotFoundError(
            f"mushroom needs the file {MUSHROOM_FILE} of the UCI repository (set 73) in the folder $NNLIB_DATA, "
            "with a header line; the package does not hold it"
        )
    frame = pd.read_csv(path, dtype=str)
    if frame.columns[0] not in ("edibility", "class") or set(frame.iloc[:, 0]) != {"e", "p"}:
        raise ValueError(
            f"{path}: the first column must be 'edibility' or 'class', of e and p: got {frame.columns[0]!r} of "
            f"{sorted(set(frame.iloc[:, 0]))[:5]}"
        )
    x = pd.get_dummies(frame.iloc[:, 1:]).to_numpy(dtype=float)
    y = (frame.iloc[:, 0] == "p").to_numpy().astype(int)
    return _classes(
        x,
        y,
        ["edible", "poisonous"],
        "indicators, 0 or 1",
        f"mushrooms, all {len(y):,} rows, {x.shape[1]} indicators",
        f"from $NNLIB_DATA/{MUSHROOM_FILE}",
        "CC BY 4.0, UCI Machine Learning Repository, Mushroom",
    )


def _classes(
    x: np.ndarray, y: np.ndarray, classes: list[str], scaling: str, what: str, origin: str, licence: str
) -> Dataset:
    """Shuffled once and for all, the last tenth for testing and the tenth before it for validation."""
    order = np.random.default_rng(0).permutation(len(y))
    inputs = torch.from_numpy(x[order]).to(torch.float32)
    labels = torch.from_numpy(y[order]).long()
    tenth = len(y) // 10
    sizes = (len(y) - 2 * tenth, tenth, tenth)
    parts = [Split(*pair) for pair in zip(inputs.split(sizes), labels.split(sizes), strict=True)]
    return Dataset(
        *parts,
        info={"classes": classes, "shape": (x.shape[1],), "scaling": scaling},
        source=f"{what}, split " + "/".join(f"{s:,}" for s in sizes) + f", {origin}",
        licence=licence,
    )
