"""Where do recorded results live, and in which form? One JSON file a chapter, replaced in one step."""

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch


def read(chapter: str, missing_ok: bool) -> dict[str, Any]:
    """The chapter's file; where there is none, an empty one, or an error that says how to make it."""
    path = _folder() / f"{chapter}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    if missing_ok:
        return {"chapter": chapter, "claims": {}, "tables": {}}
    raise FileNotFoundError(f"no record of chapter {chapter!r}: {path} does not exist; {how(chapter, 'laptop')}")


def write(chapter: str, content: dict[str, Any]) -> None:
    """Replace the chapter's file in one step: an interruption leaves the old one whole."""
    path = _folder() / f"{chapter}.json"
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    # Rows of numbers one to a line: a table stays readable in a diff.
    text = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda m: "[" + re.sub(r",\n\s+", ", ", m[1]) + "]", text)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)


def _folder() -> Path:
    """``$NNLIB_RESULTS``, else the nearest ``results`` folder above the working directory."""
    if own := os.environ.get("NNLIB_RESULTS"):
        return Path(own)
    for parent in (Path.cwd(), *Path.cwd().parents):
        if (parent / "results").is_dir():
            return parent / "results"
    raise FileNotFoundError(
        f"no results folder in or above {Path.cwd()}: run inside the book's repository, or set NNLIB_RESULTS to one"
    )


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
    """What the run was made with."""
    packages = ("torch", "numpy", "scipy", "scikit-learn", "pandas")
    versions = {"python": platform.python_version()} | {name: version(name) for name in packages}
    hardware = {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
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


def how(chapter: str, profile: str) -> str:
    """The end of an error message: what to do."""
    return f"if the change is meant, run make reproduce CHAPTER={chapter} PROFILE={profile or '<profile>'}"
