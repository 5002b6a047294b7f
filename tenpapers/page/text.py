"""Numbers and tables as text that is the same on any machine: three significant digits.

Notebooks are compared output by output; a value that differs in its fourteenth digit between two processors must print
the same. Tight comparisons belong in asserts, not in text.
"""

import math
import numbers
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pandas as pd

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value, digits: int = 3) -> str:
    """A value as text: reals with three significant digits, whole numbers in full, both with separators of thousands.

    Args:
        value: a real number, whole number, boolean (yes, no), None or NaN (–), a pair (low, high) of numbers, or text,
            which stays as it is. One-element tensors and numpy scalars count as numbers.
        digits: significant digits of a real number, at least 1.

    Returns:
        The text. Reals below 10⁻⁴ or from 10⁶ on are written with a power of ten.

    >>> [number(x) for x in (0.12345, 1234.5, 16384, 1.5e-7, True, None, (0.25, 0.5))]
    ['0.123', '1,230', '16,384', '1.50×10⁻⁷', 'yes', '–', '0.250 to 0.500']
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, tuple) and len(value) == 2:
        return f"{number(value[0], digits)} to {number(value[1], digits)}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return MISSING
    if isinstance(value, numbers.Integral):
        return f"{value:,}".replace("-", "−")
    if not isinstance(value, numbers.Real):
        raise ValueError(f"number() shows real numbers, booleans, None, text or a pair of numbers: got {value!r}")
    real = float(value)
    if math.isinf(real):
        return "∞" if real > 0 else "−∞"
    return _real(real, digits).replace("-", "−")


def _real(value: float, digits: int) -> str:
    """A finite real number with this many significant digits."""
    if value == 0:
        return "0"
    # First to ten digits, so that noise in the last bits does not decide how a value such as 0.1225 is rounded.
    exact = Decimal(f"{value:.9e}")
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), ROUND_HALF_EVEN)
    rounded = rounded.quantize(Decimal(1).scaleb(rounded.adjusted() - digits + 1))  # 9.999 has become 10.00
    exponent = rounded.adjusted()
    if -4 <= exponent < 6:
        return f"{rounded:,f}" if exponent < digits else f"{int(rounded):,}"
    return f"{rounded.scaleb(-exponent):f}×10{str(exponent).translate(_SUPERSCRIPT)}"


class Table:
    """A data frame as text: markdown on a page and in JupyterLab, aligned columns in a terminal. Made by ``table``."""

    def __init__(self, frame: pd.DataFrame):
        named = frame.index.names != [None] or not isinstance(frame.index, pd.RangeIndex)
        frame = frame.reset_index() if named else frame
        self.header = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
        self.rows = [[number(value) for value in row] for row in frame.itertuples(index=False, name=None)]
        self.right = [pd.api.types.is_numeric_dtype(dtype) and dtype.kind != "b" for dtype in frame.dtypes]

    def _repr_markdown_(self) -> str:
        cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [self.header, *self.rows]]
        rule = ["---:" if right else ":---" for right in self.right]
        return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])

    def __repr__(self) -> str:
        rows = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, self.right, strict=True)
            ).rstrip()
            for row in rows
        )


def table(frame: pd.DataFrame | list[dict[str, Any]]) -> Table:
    """A data frame for a page, every cell through ``number``.

    Args:
        frame: at least one column; an index that is more than a row count becomes the first column. Or rows as dicts.

    Returns:
        An object that shows itself as markdown in a notebook and as aligned text when printed.

    Raises:
        ValueError: this is no data frame and no list of rows, or it has no columns.

    >>> print(table(pd.DataFrame({"method": ["SGD", "EMA"], "steps": [1234, 567], "lr": [0.1, 0.25]})))
    method  steps     lr
    SGD     1,234  0.100
    EMA       567  0.250
    """
    if isinstance(frame, list) and all(isinstance(row, dict) for row in frame):
        frame = pd.DataFrame(frame)
    if not isinstance(frame, pd.DataFrame) or frame.columns.empty:
        raise ValueError(f"table() shows a pandas DataFrame with at least one column: got {type(frame).__name__}")
    return Table(frame)
