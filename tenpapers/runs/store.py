"""Where do recorded results live, and in which form? One JSON file a chapter, replaced in one step.

``{"chapter": …, "tables": {name: {profile: …}}, "probes": {name: …}, "claims": {id: {profile: …}}}``; the form is
checked by ``tests/results.schema.json``. The book's own records are in ``tenpapers/results``. A user's are in
``$NNLIB_RESULTS``, else, in a checkout, these very files, else ``./results``; where both have something, the user's
counts.
"""

import json
import math
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

COMMITTED = Path(__file__).resolve().parents[1] / "results"
PARTS = ("tables", "probes", "claims")


def own_folder() -> Path:
    """Where runs of this user are written."""
    if own := os.environ.get("NNLIB_RESULTS"):
        return Path(own)
    return COMMITTED if (COMMITTED.parents[1] / "pyproject.toml").exists() else Path("results")


def read(chapter: str) -> dict[str, Any]:
    """All that is recorded of a chapter: the book's, and over it, profile by profile, the user's own."""
    content = committed(chapter)
    if own_folder() != COMMITTED:
        own = _read(own_folder() / f"{chapter}.json", chapter)
        for part in PARTS:
            for name, entry in own[part].items():
                content[part][name] = content[part].get(name, {}) | entry
    return content


def committed(chapter: str) -> dict[str, Any]:
    """What the book's own record says; empty where there is none."""
    return _read(COMMITTED / f"{chapter}.json", chapter)


@contextmanager
def replace(chapter: str) -> Iterator[dict[str, Any]]:
    """The user's record of a chapter, to be changed in place; it is written, in one step, if nothing went wrong."""
    path = own_folder() / f"{chapter}.json"
    content = _read(path, chapter)
    yield content
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    # Rows of numbers one to a line: a table stays readable in a diff.
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda m: "[" + re.sub(r",\n\s+", ", ", m[1]) + "]", text)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)  # an interruption leaves the old one whole


def _read(path: Path, chapter: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"chapter": chapter, **{part: {} for part in PARTS}}
    if not path.exists():
        return empty
    stamp = path.stat()
    return empty | json.loads(_text(path, stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=32)
def _text(path: Path, changed: int, size: int) -> str:
    return path.read_text(encoding="utf-8")


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: numbers, strings, bools, None, lists and dicts; NaN and infinity become None.

    Raises:
        ValueError: for anything else.

    >>> plain({"steps": np.int64(3), "risk": torch.tensor(0.5), "missing": float("nan")})
    {'steps': 3, 'risk': 0.5, 'missing': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if value is pd.NA or value is pd.NaT:
        return None
    raise ValueError(f"a record holds numbers, strings, bools, lists and dicts: got {type(value).__name__}")


def machine() -> dict[str, Any]:
    """What a run is made with."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "numpy", "scipy", "scikit-learn", "pandas"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    hardware: dict[str, Any] = {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        hardware["gpu"] = torch.cuda.get_device_name()
    return {"versions": versions, "hardware": hardware}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
