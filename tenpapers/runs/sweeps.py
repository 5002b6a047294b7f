"""How does a result depend on its settings? A function over a grid, in parallel, cached, one row a run."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import joblib
import pandas as pd

from tenpapers.runs.cache import attempt, cache_folder, cache_key

Cell = dict[str, Any]


def sweep(
    function: Callable[..., Cell | list[Cell]],
    grid: Mapping[str, Sequence[Any]] | Sequence[Cell],
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Call ``function(**cell)`` for every cell of a grid and put all the answers in one tidy frame.

    Answers are kept on disk as soon as they are there, so an interrupted sweep goes on where it stopped. The key
    holds the cell, a hash of the code that the function stands on (classes, methods, partials, and values that it reads
    included), and the names, sizes and times of the files in ``$NNLIB_DATA``: changed code or data is never answered
    from the cache. Where no folder can be written, all is computed, with one warning. A cell that raises is a row with
    its ``error``, is not cached, and does not stop the others.

    Args:
        function: Takes the names of the grid as keywords; returns a dict, or a list of dicts for several rows.
        grid: A mapping from name to values (their product is the grid), or a list of cells.
        n_jobs: As in joblib; by default 1, or what ``joblib.parallel_config`` says, which also picks the backend.

    Returns:
        One row for each answer: the cell's columns, the answer's, ``error`` (None where all went well) and
        ``seconds`` (of the first, uncached, run); ``attrs["seconds"]`` is their sum over the cells.

    Raises:
        ValueError: for an empty grid, or an answer with a column of the grid's or of this function's own.

    Chapter: ``book/nqm.ipynb``. The cache is in ``$NNLIB_CACHE``, by default ``~/.cache/nnlib``.

    >>> def area(width, height):
    ...     return {"area": width * height}
    >>> sweep(area, {"width": [1, 2], "height": [3]})[["width", "height", "area"]]
       width  height  area
    0      1       3     3
    1      2       3     6
    """
    if isinstance(grid, Mapping):
        cells = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    else:
        cells = [dict(cell) for cell in grid]
    if not grid or not cells:
        raise ValueError("the grid is empty: give at least one value for each name")
    key, folder = cache_key(function), cache_folder()
    calls = (joblib.delayed(attempt)(function, key, cell, folder) for cell in cells)
    answers: Any = joblib.Parallel(n_jobs=n_jobs)(calls)
    found = []
    for cell, rows, seconds, _, error in answers:
        reserved = {*cell, "error", "seconds"}
        for row in rows or [{}]:
            if clash := reserved & set(row):
                names = ", ".join(sorted(clash))
                raise ValueError(f"the function must not return columns of the grid's name: got {names}")
            found.append({**cell, **row, "error": error, "seconds": seconds})
    frame = pd.DataFrame(found)
    frame.attrs["seconds"] = sum(seconds for _, _, seconds, _, _ in answers)
    return frame
