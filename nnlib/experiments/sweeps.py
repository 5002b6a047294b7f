"""How does a result depend on its settings? A function over a grid, in parallel, cached, one row a run."""

import ast
import hashlib
import inspect
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

import nnlib

Cell = dict[str, Any]


def sweep(
    function: Callable[..., Cell | list[Cell]],
    grid: Mapping[str, Sequence[Any]] | Sequence[Cell],
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Call ``function(**cell)`` for every cell of a grid and put all the answers in one tidy frame.

    Answers are kept on disk as soon as they are there, so an interrupted sweep goes on where it stopped. The key
    holds the cell, the function, and a hash of the source it stands on: changed code is never answered from the cache.
    For a function of nnlib that is its module and all that this imports; for one written in a notebook it is the whole
    of nnlib, the function's own source, and the values of the globals it reads. A cell that raises is a row with its
    ``error``, is not cached, and does not stop the others.

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
    # The cache is opened here, not at import: a test or a command may have just chosen another folder.
    memory = joblib.Memory(os.environ.get("NNLIB_CACHE") or Path.home() / ".cache" / "nnlib", verbose=0)
    answer = memory.cache(_answer, ignore=["function"])
    key = _fingerprint(function)
    answers = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(_attempt)(answer, function, key, cell) for cell in cells)
    frame = pd.DataFrame([row for rows in answers for row in rows])
    frame.attrs["seconds"] = sum(rows[0]["seconds"] for rows in answers)
    return frame


def _attempt(answer: Callable, function: Callable, key: str, cell: Cell) -> list[Cell]:
    start = time.perf_counter()
    try:
        rows, seconds = answer(function, key, cell)
        error = None
    except Exception as caught:  # whatever it was, the other cells go on
        rows, seconds, error = [{}], time.perf_counter() - start, f"{type(caught).__name__}: {caught}"
    reserved = {*cell, "error", "seconds"}
    for row in rows:
        if clash := reserved & set(row):
            raise ValueError(f"the function must not return columns of the grid's name: got {', '.join(sorted(clash))}")
    return [{**cell, **row, "error": error, "seconds": seconds} for row in rows]


def _answer(function: Callable, key: str, cell: Cell) -> tuple[list[Cell], float]:
    start = time.perf_counter()
    rows = function(**cell)
    return (rows if isinstance(rows, list) else [rows]), time.perf_counter() - start


@lru_cache(maxsize=64)
def source_hash(module: str = "nnlib") -> str:
    """A hash of nnlib's source as it was when this process first asked: all of it, or what one module stands on."""
    root = Path(nnlib.__path__[0])
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py") if module == "nnlib" else _behind(module, root)):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _behind(module: str, root: Path) -> set[Path]:
    """The files of a module of nnlib and of all that it imports from nnlib, directly or not."""
    found: set[Path] = set()
    names = [module]
    while names:
        path = root.joinpath(*names.pop().split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path in found or not path.exists():  # the second: ``from module import name`` names no module
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names if alias.name.startswith("nnlib.")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "nnlib":
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _fingerprint(function: Callable) -> str:
    """What an answer depends on beside its cell."""
    name = [function.__module__, function.__qualname__]
    if function.__module__.startswith("nnlib."):
        return joblib.hash([source_hash(function.__module__), *name])
    return joblib.hash([source_hash(), *name, *_own_source(function, set())])


def _own_source(function: Callable, seen: set[str]) -> list[Any]:
    """Source of a function outside nnlib, of the functions of its module that it calls, and the values it reads."""
    seen.add(function.__qualname__)
    parts: list[Any] = [inspect.getsource(function), function.__defaults__, function.__kwdefaults__]
    free = inspect.getclosurevars(function)
    for name, value in sorted({**free.globals, **free.nonlocals}.items()):
        if inspect.isfunction(value) and value.__module__ == function.__module__:
            if value.__qualname__ not in seen:
                parts += _own_source(value, seen)
        elif not inspect.ismodule(value) and not callable(value):
            parts.append((name, value))
    return parts
