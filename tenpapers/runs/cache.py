"""What was asked before need not run again: answers on disk, by cell and by a hash of the source that they stand on."""

import ast
import hashlib
import inspect
import os
import time
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib

from tenpapers.data import noted

HOUSES = ("nnlib", "tenpapers")
Cell = dict[str, Any]


def attempt(function: Callable, key: str, cell: Cell) -> tuple[Cell, list[Cell], float, list[str], str | None]:
    """Run a cell, or find its answer: the cell, its rows, seconds, what data was loaded, and what went wrong."""
    # The cache is opened here, not at import: a test or a command may have just chosen another folder.
    memory = joblib.Memory(os.environ.get("NNLIB_CACHE") or Path.home() / ".cache" / "nnlib", verbose=0)
    start = time.perf_counter()
    try:
        answer: Any = memory.cache(_answer, ignore=["function"])
        rows, seconds, data = answer(function, key, cell)
    except Exception as caught:  # whatever it was, the other cells go on
        return cell, [], time.perf_counter() - start, [], f"{type(caught).__name__}: {caught}"
    return cell, rows, seconds, data, None


def _answer(function: Callable, key: str, cell: Cell) -> tuple[list[Cell], float, list[str]]:
    start = time.perf_counter()
    with noted() as data:
        rows = function(**cell)
    return (rows if isinstance(rows, list) else [rows]), time.perf_counter() - start, data


def fingerprint(function: Callable) -> str:
    """What an answer depends on beside its cell.

    For a function of the book's packages its module and all that this imports from them; for one written in a notebook
    both packages whole, the function's own source, and the values of the globals it reads.
    """
    name = [function.__module__, function.__qualname__]
    if function.__module__.split(".")[0] in HOUSES:
        return str(joblib.hash([source_hash(function.__module__), *name]))
    whole = [source_hash(house) for house in HOUSES]
    return str(joblib.hash([*whole, *name, *_own_source(function, set())]))


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


def _own_source(function: Callable, seen: set[str]) -> list[Any]:
    """Source of a function outside the packages, of the functions of its module that it calls, and values it reads."""
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
