"""The records in results/: every file fits the schema, and each claim names evidence that exists."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "tests" / "results.schema.json").read_text())
FILES = sorted((ROOT / "results").glob("*.json"))
CHAPTERS = {path.stem for path in (ROOT / "book").glob("*.ipynb")} - {"index"}


def test_every_chapter_has_its_record_and_every_record_its_chapter():
    """Breaks if a chapter claims things without a record; also if there were no file for the tests below."""
    assert {path.stem for path in FILES} == CHAPTERS != set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_record_fits_the_schema(path):
    """Breaks if a record lacks its configuration, versions, hardware, data source or verdict."""
    record = json.loads(path.read_text())
    jsonschema.validate(record, SCHEMA)
    assert record["chapter"] == path.stem
    for table in record["tables"].values():
        for run in table.values():
            assert all(len(row) == len(run["columns"]) for row in run["rows"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_attempted_claim_names_a_test_that_exists(path):
    """Breaks if the evidence of a claim is renamed or removed."""
    for name, claim in json.loads(path.read_text())["claims"].items():
        if claim["verdict"] == "not attempted":
            assert claim["test"] == "" and all(run["ours"] is None for run in claim["runs"].values())
            continue
        file, _, function = claim["test"].partition("::")
        source = (ROOT / file).read_text()
        assert re.search(rf"^def {re.escape(function)}\(", source, re.MULTILINE), f"{name}: no {claim['test']}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_claim_that_agrees_with_a_number_of_the_paper_is_near_it(path):
    """Breaks if a verdict 'agrees' stands beside two different numbers."""
    for name, claim in json.loads(path.read_text())["claims"].items():
        if claim["verdict"] != "agrees" or claim["paper"] is None:
            continue
        paper = claim["paper"] if isinstance(claim["paper"], dict) else {"": claim["paper"]}
        for run in claim["runs"].values():
            ours = run["ours"] if isinstance(run["ours"], dict) else {"": run["ours"]}
            for key, value in paper.items():
                assert ours[key] == pytest.approx(value, rel=0.1), f"{name}, {key}"
