"""What was asked before need not run again: answers on disk, by cell and by a hash of the source that they stand on."""

import ast
import hashlib
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

import joblib

from tenpapers.data import noted
from tenpapers.data.sources import own_files
from tenpapers.runs.describe import HOUSES, Indescribable, described

Cell = dict[str, Any]


def attempt(
    function: Callable, key: str, cell: Cell, folder: str | None
) -> tuple[Cell, list[Cell], float, list[str], str | None]:
    """Run a cell, or find its answer: the cell, its rows, seconds, what data was loaded, and what went wrong.

    Args:
        function: What is run.
        key: Of all that the answer stands on beside the cell: :func:`cache_key`.
        cell: Its arguments by name.
        folder: Of the cache; None to run whatever was answered before.
    """
    start = time.perf_counter()
    try:
        answer: Any = _answer
        if folder is not None:
            answer = joblib.Memory(folder, verbose=0).cache(_answer, ignore=["function", "cell"])
        rows, seconds, data = answer(function, cell, f"{key} {_described(cell)}")
    except Exception as caught:  # whatever it was, the other cells go on
        return cell, [], time.perf_counter() - start, [], f"{type(caught).__name__}: {caught}"
    return cell, rows, seconds, data, None


def _answer(function: Callable, cell: Cell, key: str) -> tuple[list[Cell], float, list[str]]:
    start = time.perf_counter()
    with noted() as data:
        rows = function(**cell)
    return (rows if isinstance(rows, list) else [rows]), time.perf_counter() - start, data


def cache_folder() -> str | None:
    """Where answers are kept: ``$NNLIB_CACHE``, else ``~/.cache/nnlib``; None, and a warning, where nothing can be.

    It is looked up at each sweep, not at import: a test or a command may have just chosen another folder.
    """
    try:
        folder = Path(os.environ.get("NNLIB_CACHE") or Path.home() / ".cache" / "nnlib")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except (OSError, RuntimeError) as caught:  # the second: a user without a home
        _warn_once(f"no answer is kept, and each is computed again: {caught}; set NNLIB_CACHE to a folder of yours")
        return None


@lru_cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def cache_key(function: Callable) -> str:
    """What an answer depends on beside its cell: code, what it reads, and the reader's own files of data."""
    return str(joblib.hash([fingerprint(function), own_files()]))


def fingerprint(function: Callable) -> str:
    """The code that an answer depends on, and the values that this reads.

    For a function of the book's packages its module and all that this imports from them; for anything else (a function
    of a notebook, a method, a partial) both packages whole, and all that ``tenpapers.runs.describe`` finds in it.
    """
    module = getattr(function, "__module__", None) or ""
    if isinstance(function, FunctionType) and module.split(".")[0] in HOUSES:
        return str(joblib.hash([source_hash(module), module, function.__qualname__]))
    return str(joblib.hash([*(source_hash(house) for house in HOUSES), _described(function)]))


def _described(value: Any) -> str:
    try:
        return described(value)
    except Indescribable:
        return uuid.uuid4().hex  # as no other: what can't be told apart from something else is not answered from memory


@lru_cache(maxsize=256)
def source_hash(module: str) -> str:
    """A hash of the source of a package, or of what one module stands on, as it was when this process first asked."""
    digest = hashlib.sha256()
    root = _root(module.split(".")[0])
    for path in sorted(root.rglob("*.py") if module in HOUSES else _behind(module)):
        digest.update(path.relative_to(_root(path_house(path)).parent).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def path_house(path: Path) -> str:
    """The package that a file belongs to."""
    return next(house for house in HOUSES if path.is_relative_to(_root(house)))


@lru_cache
def _root(house: str) -> Path:
    spec = find_spec(house)
    if house not in HOUSES or spec is None or spec.origin is None:
        raise ValueError(f"only the source of {' and '.join(HOUSES)} is hashed: got {house!r}")
    return Path(spec.origin).parent


def _behind(module: str) -> set[Path]:
    """The files of a module and of all that it imports from the book's packages, directly or not."""
    found: set[Path] = set()
    names = [module]
    while names:
        house, *rest = names.pop().split(".")
        path = _root(house).joinpath(*rest)
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if path in found or not path.exists():  # the second: ``from module import name`` names no module
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                asked = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                asked = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            names += [name for name in asked if name.split(".")[0] in HOUSES]
    return found
