"""The records in tenpapers/results: every file fits the schema, adds up, and names no place of a machine."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest

from tenpapers.claims.ledger import CHAPTERS
from tenpapers.claims.rules import NOT_ATTEMPTED, VERDICTS

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "tests" / "results.schema.json").read_text())
FILES = sorted((ROOT / "tenpapers" / "results").glob("*.json"))


def complaints(content: dict) -> list[str]:
    """What is wrong with a chapter's record; an empty list for a good one."""
    found = [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(content)]
    if found:
        return found
    for name, profiles in content["tables"].items():
        for profile, entry in profiles.items():
            where = f"{name}, {profile}"
            if any(len(row) != len(entry["columns"]) for row in entry["rows"]):
                found.append(f"{where}: a row has another length than the columns")
            runs = sum(run["rows"] for run in entry["runs"])
            if runs + entry.get("before", {}).get("rows", 0) != len(entry["rows"]):
                found.append(f"{where}: the runs do not add up to the rows")
            if any(run["made"] >= len(entry["made"]) for run in entry["runs"]):
                found.append(f"{where}: a run was made on a machine that is not listed")
    for name, profiles in content["claims"].items():
        for profile, entry in profiles.items():
            if (entry["verdict"] == NOT_ATTEMPTED) and (entry["ours"] or entry["tables"]):
                found.append(f"{name}, {profile}: numbers of what was not attempted")
            if {table for table in entry["tables"] if "." not in table} - set(content["tables"]):
                found.append(f"{name}, {profile}: a table that is not there")
    if match := re.search(r"/(?:home|Users|root|tmp|work)/", json.dumps(content)):
        found.append(f"names a path of a machine: {match[0]}")
    return found


def test_every_chapter_has_its_record_and_every_record_its_chapter():
    """Breaks if a chapter claims things without a record; also if there were no file for the test below."""
    chapters = {path.stem for path in (ROOT / "book").glob("*.ipynb")} - {"index"}
    assert {path.stem for path in FILES} == set(CHAPTERS) == chapters != set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_record_fits_the_schema_and_adds_up(path):
    """Breaks if a run lacks its source, data, versions or hardware, or a verdict its reason."""
    content = json.loads(path.read_text())
    assert content["chapter"] == path.stem
    assert complaints(content) == []


def test_schema_and_code_know_the_same_verdicts():
    assert tuple(SCHEMA["$defs"]["claim"]["properties"]["verdict"]["enum"]) == VERDICTS


MADE = {"versions": {"python": "3", "torch": "2", "numpy": "2"}, "hardware": {"cpu": "x", "cores": 2, "threads": 1}}
RUN = {"cell": {"x": 1}, "rows": 1, "seconds": 0.1, "source": "0123456789abcdef", "data": ["digits"], "made": 0}
GOOD = {
    "chapter": "demo",
    "tables": {
        "steps": {
            "laptop": {
                "columns": ["x", "y"],
                "rows": [[0, 1.5], [1, None]],
                "runs": [RUN],
                "made": [MADE],
                "before": {"rows": 1, "data": ["digits"], "config": {}, "seconds": 1, **MADE},
            }
        }
    },
    "probes": {
        "steps": {"cell": {"x": 7}, "columns": ["x"], "rows": [[7]], "seconds": 0.1, "source": "0123456789abcdef"}
    },
    "claims": {
        "one": {
            "laptop": {
                "verdict": "undecided",
                "why": "one run",
                "ours": {"a": {"mean": 1.5, "error": None, "n": 1}, "b": 2, "c": True},
                "tables": ["steps"],
                "data": ["digits"],
            }
        },
        "none": {"laptop": {"verdict": "not attempted", "why": "a GPU", "ours": {}, "tables": [], "data": []}},
    },
}


def test_a_good_record_has_nothing_to_complain_about():
    assert complaints(GOOD) == []


def spoil(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value


STEPS, ONE = ("tables", "steps", "laptop"), ("claims", "one", "laptop")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*ONE, "verdict"), "nearly"),
        ((*ONE, "why"), None),
        ((*ONE, "why"), ""),
        ((*ONE, "author"), "me"),
        ((*ONE, "ours", "a"), {"mean": 1.5}),
        ((*ONE, "ours", "a"), [1.5]),
        ((*ONE, "tables"), ["absent"]),
        ((*ONE, "verdict"), "not attempted"),
        (("claims", "one"), {}),
        (("claims", "one", "huge"), {}),
        (("claims", "one-two"), GOOD["claims"]["one"]),
        (("claims",), {}),
        ((*STEPS, "rows"), [[1], [2, 3]]),
        ((*STEPS, "rows"), [[1, 2]]),
        ((*STEPS, "before", "rows"), 2),
        ((*STEPS, "before", "hardware"), None),
        ((*STEPS, "runs", 0, "source"), None),
        ((*STEPS, "runs", 0, "source"), "today"),
        ((*STEPS, "runs", 0, "data"), None),
        ((*STEPS, "runs", 0, "data"), ["/home/me/digits"]),
        ((*STEPS, "runs", 0, "made"), 1),
        ((*STEPS, "made", 0, "versions"), {"python": "3"}),
        (("probes", "steps", "cell"), {}),
        (("probes", "steps", "source"), None),
        (("probes",), None),
    ],
)
def test_a_spoilt_record_is_found(path, value):
    # Without this, a schema that accepts everything would pass.
    content = copy.deepcopy(GOOD)
    spoil(content, path, value)
    assert complaints(content) != []
