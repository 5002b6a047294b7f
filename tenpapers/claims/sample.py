"""How sure is a measured number? Values over seeds or splits, their mean and its standard error; paired differences."""

import math
from dataclasses import dataclass
from statistics import fmean, stdev

import pandas as pd


@dataclass(frozen=True)
class Sample:
    """A number measured several times.

    Args:
        values: One for each seed or split, at least one.
        overlap: For random splits of one data set, test over training examples: the splits share examples, and their
            mean is less sure than that of independent runs. 0 for seeds.

    Raises:
        ValueError: for no value, or one that is not finite.

    Source: Nadeau and Bengio, Inference for the generalization error (2003), for the correction.

    >>> Sample((1.0, 2.0, 3.0)).mean, round(Sample((1.0, 2.0, 3.0)).error, 3)
    (2.0, 0.577)
    """

    values: tuple[float, ...]
    overlap: float = 0.0

    def __post_init__(self):
        values = tuple(float(value) for value in self.values)
        if not values or not all(math.isfinite(value) for value in values):
            raise ValueError(f"a sample holds at least one value, all finite: got {values}")
        object.__setattr__(self, "values", values)

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean, sd sqrt(1/n + overlap); infinite for one value."""
        if self.n == 1:
            return math.inf
        return stdev(self.values) * math.sqrt(1 / self.n + self.overlap)

    def __sub__(self, other: "Sample") -> "Sample":
        """Differences, value by value: both must be in the order of the same seeds or splits."""
        if self.n != other.n or self.overlap != other.overlap:
            raise ValueError(f"paired samples have one value for each seed: got {self.n} and {other.n}")
        return Sample(tuple(a - b for a, b in zip(self.values, other.values, strict=True)), self.overlap)


def sample(frame: pd.DataFrame, column: str, unit: str = "seed", overlap: float = 0.0) -> Sample:
    """A column's values, one for each seed, in the order of the seeds.

    Raises:
        ValueError: where a seed has several rows, or a value is missing.

    >>> sample(pd.DataFrame({"seed": [1, 0], "loss": [3.0, 2.0]}), "loss").values
    (2.0, 3.0)
    """
    if frame[unit].duplicated().any():
        raise ValueError(f"{column!r} must have one value for each {unit}: got {len(frame)} rows")
    return Sample(tuple(frame.sort_values(unit)[column].astype(float)), overlap)


def paired(
    frame: pd.DataFrame, column: str, by: str, ours: str, other: str, unit: str = "seed", overlap: float = 0.0
) -> Sample:
    """Differences ours - other of a column, seed by seed.

    Args:
        frame: One row for each value of ``by`` and seed.
        column: What is compared.
        by: The column that tells ``ours`` from ``other``.
        ours: Its value for what is ahead.
        other: Its value for what it is compared with.
        unit: What pairs the runs.
        overlap: As in :class:`Sample`.

    Raises:
        ValueError: where the two do not have the same seeds.

    >>> frame = pd.DataFrame({"method": list("aabb"), "seed": [0, 1, 0, 1], "loss": [1.0, 2.0, 3.0, 3.0]})
    >>> paired(frame, "loss", "method", "b", "a").values
    (2.0, 1.0)
    """
    parts = [frame[frame[by] == name] for name in (ours, other)]
    seeds = [sorted(part[unit]) for part in parts]
    if seeds[0] != seeds[1]:
        raise ValueError(f"{ours} and {other} must have the same {unit}s: got {seeds[0]} and {seeds[1]}")
    first, second = (sample(part, column, unit, overlap) for part in parts)
    return first - second
