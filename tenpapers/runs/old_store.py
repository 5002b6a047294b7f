"""The form of records of chapters that have not moved to tables and claims yet."""

import json
import os
import re
from pathlib import Path
from typing import Any


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
    if own := os.environ.get("NNLIB_RESULTS"):
        return Path(own)
    return Path(__file__).resolve().parents[1] / "results"


def how(chapter: str, profile: str) -> str:
    """The end of an error message: what to do."""
    return f"if the change is meant, run make reproduce CHAPTER={chapter} PROFILE={profile or '<profile>'}"
