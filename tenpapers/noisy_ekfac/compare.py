"""Is one method better than another, beyond what splits and seeds explain? Chapter: ``book/noisy_ekfac.ipynb``."""

import pandas as pd


def paired(frame: pd.DataFrame, by: str, unit: str, column: str, ours: pd.Series, other: pd.Series) -> pd.DataFrame:
    """Mean and standard error of the difference ours - other of a column, paired by split or seed.

    Args:
        frame: One row a run.
        by: Column that names the data or the workload.
        unit: Column that pairs the runs.
        column: What is compared.
        ours: Booleans: which rows are ours; one for each ``by`` and ``unit``.
        other: Which are the other's.

    Returns:
        A row for each ``by``, with ``mean`` and ``error``.

    Raises:
        ValueError: where a pair is missing or not unique.

    >>> frame = pd.DataFrame({"data": "x", "split": [0, 1] * 2, "method": list("aabb"), "rmse": [1.0, 2.0, 1.5, 3.5]})
    >>> paired(frame, "data", "split", "rmse", frame.method == "b", frame.method == "a").to_dict("index")
    {'x': {'mean': 1.0, 'error': 0.5}}
    """
    left, right = (frame[rows].set_index([by, unit])[column] for rows in (ours, other))
    if not (left.index.is_unique and left.sort_index().index.equals(right.sort_index().index)):
        raise ValueError(f"for each {by} and {unit} there must be one run of both methods")
    groups = (left - right).groupby(by)
    return pd.DataFrame({"mean": groups.mean(), "error": groups.sem()})


def verdict(differences: pd.DataFrame, sign: int) -> str:
    """The rule by which "consistently better" is judged.

    *Agrees*: better on every set by more than two standard errors. *Agrees in trend*: better in the mean on every set.
    *Disagrees*: anything else.

    Args:
        differences: From :func:`paired`.
        sign: 1 where larger is better, -1 where smaller is.

    Raises:
        ValueError: for another sign, or fewer than two pairs, of which no error can be told.

    >>> verdict(pd.DataFrame({"mean": [-1.0, -0.1], "error": [0.1, 0.2]}), sign=-1)
    'agrees in trend'
    """
    if sign not in (1, -1) or differences.error.isna().any():
        raise ValueError("sign must be 1 or -1, and each set needs two pairs or more")
    gain = sign * differences["mean"]
    if (gain > 2 * differences.error).all():
        return "agrees"
    return "agrees in trend" if (gain > 0).all() else "disagrees"
