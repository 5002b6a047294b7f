"""The records in results/: every file fits the schema, and each claim names evidence that exists."""

import ast
import json
import re
from pathlib import Path

import jsonschema
import pandas as pd
import pytest

from tenpapers.runs import VERDICTS, record, recorded, table

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json.loads((ROOT / "tests" / "results.schema.json").read_text())
FILES = sorted((ROOT / "tenpapers" / "results").glob("*.json"))
CHAPTERS = {path.stem for path in (ROOT / "book").glob("*.ipynb")} - {"index"}


def complaints(content: dict, root: Path = ROOT) -> list[str]:
    """What is wrong with a chapter's record; an empty list for a good one."""
    found = [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(content)]
    if found:
        return found
    if not (root / "book" / f"{content['chapter']}.ipynb").exists():
        found.append(f"no chapter {content['chapter']}")
    for name, claim in content["claims"].items():
        attempted = claim["verdict"] != "not attempted"
        if bool(claim["test"]) != attempted or (attempted and not exists(claim["test"], root)):
            found.append(f"{name}: verdict {claim['verdict']!r} with the test {claim['test']!r}")
        for profile, run in claim["runs"].items():
            if (run["ours"] is not None) != attempted:
                found.append(f"{name}, {profile}: ours {run['ours']!r} with verdict {claim['verdict']!r}")
            if claim["verdict"] == "agrees" and claim["paper"] is not None and not near(run["ours"], claim["paper"]):
                found.append(f"{name}, {profile}: ours {run['ours']!r} does not agree with {claim['paper']!r}")
    for name, runs in content["tables"].items():
        for profile, run in runs.items():
            if any(len(row) != len(run["columns"]) for row in run["rows"]):
                found.append(f"{name}, {profile}: a row has another length than the columns")
    if match := re.search(r"/(?:home|Users|root|tmp|work)/", json.dumps(content)):
        found.append(f"names a path of a machine: {match[0]}")
    return found


def exists(test: str, root: Path) -> bool:
    path, _, name = test.partition("::")
    if not (root / path).is_file():
        return False
    tree = ast.parse((root / path).read_text())
    return name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def near(ours, paper) -> bool:
    """Whether each number of the paper has one of ours within a tenth."""
    ours, paper = (value if isinstance(value, dict) else {"": value} for value in (ours, paper))
    return all(key in ours and ours[key] == pytest.approx(value, rel=0.1) for key, value in paper.items())


def test_every_chapter_has_its_record_and_every_record_its_chapter():
    """Breaks if a chapter claims things without a record; also if there were no file for the test below."""
    assert {path.stem for path in FILES} == CHAPTERS != set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_record_fits_the_schema_and_names_evidence_that_exists(path):
    """Breaks if a record lacks configuration, versions, data or verdict, or the test of a claim is renamed."""
    content = json.loads(path.read_text())
    assert content["chapter"] == path.stem
    assert complaints(content) == []


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A chapter as ``record`` and ``table`` write it."""
    for folder in ("results", "book", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "book" / "demo.ipynb").touch()
    (tmp_path / "tests" / "test_demo.py").write_text("def test_claim():\n    pass\n")
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("NNLIB_RECORD", "1")
    more = {"statement": "Momentum needs fewer steps.", "where": "section 3", "profile": "quick"}
    more |= {"data": "none: exact computation", "seconds": 1, "config": {"seed": 0}}
    test = "tests/test_demo.py::test_claim"
    record("demo", "one", ours=1.5, spread=[1, 2], verdict="agrees", paper=1.4, test=test, **more)
    record("demo", "several", ours={"SGD": 2, "Adam": True}, verdict="disagrees", paper={"SGD": 9}, test=test, **more)
    record("demo", "none", ours=None, verdict="not attempted", test="", **more)
    frame = pd.DataFrame({"batch_size": [8, 16], "steps": [3.0, None]})
    table("demo", "steps", lambda: frame, "laptop", data="digits", config={"seeds": 3})
    return tmp_path


def test_what_record_and_table_write_has_the_form_of_the_schema(written):
    assert complaints(recorded("demo"), written) == []


def test_schema_and_code_know_the_same_verdicts():
    assert tuple(SCHEMA["$defs"]["claim"]["properties"]["verdict"]["enum"]) == VERDICTS


def spoil(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("claims", "one", "verdict"), "nearly"),
        (("claims", "one", "test"), "tests/test_demo.py::test_absent"),
        (("claims", "one", "test"), "tests/absent.py::test_claim"),
        (("claims", "one", "test"), "by eye"),
        (("claims", "one", "runs"), {}),
        (("claims", "one", "runs", "huge"), {}),
        (("claims", "one", "runs", "quick", "ours"), "1.5"),
        (("claims", "one", "runs", "quick", "ours"), {}),
        (("claims", "one", "runs", "quick", "spread"), [1]),
        (("claims", "one", "runs", "quick", "tolerance"), 2),
        (("claims", "one", "runs", "quick", "hardware"), None),
        (("claims", "one", "runs", "quick", "data"), None),
        (("claims", "one", "statement"), "short"),
        (("claims", "one", "author"), "me"),
        (("claims", "one", "test"), ""),
        (("claims", "one", "paper"), 1.3),
        (("claims", "several", "verdict"), "agrees"),
        (("claims", "none", "verdict"), "agrees"),
        (("claims",), {}),
        (("tables", "steps", "laptop", "rows"), [[1]]),
        (("tables", "steps", "laptop", "data"), "/home/me/digits"),
        (("chapter",), "absent"),
    ],
)
def test_a_spoilt_record_is_found(written, path, value):
    # Without this, a schema that accepts everything would pass.
    content = recorded("demo")
    spoil(content, path, value)
    assert complaints(content, written)
