"""Every claim of the book, judged again: the recorded verdict is what its rule makes of its evidence, today."""

import ast
from pathlib import Path

import pytest

from tenpapers.claims.ledger import CHAPTERS, claims_of, tables_of
from tenpapers.claims.rules import NOT_ATTEMPTED, VERDICTS, Exact
from tenpapers.runs.store import committed
from tenpapers.runs.table import RECORDED

ROOT = Path(__file__).parents[3]
CLAIMS = {f"{chapter}.{name}": claim for chapter in CHAPTERS for name, claim in claims_of(chapter).items()}


def numbers(ours):
    """Numbers by name, those of a sample apart; what is no number as it is."""
    flat = {}
    for name, value in ours.items():
        flat |= {f"{name}, {key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return {name: pytest.approx(v, rel=1e-5, abs=1e-9) if isinstance(v, float) else v for name, v in flat.items()}


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict_on_record_is_what_the_rule_says_of_the_evidence(name):
    """Recorded tables are judged again; what is computed is computed again, and fails if its method is broken."""
    claim = CLAIMS[name]
    for profile in RECORDED:
        found, kept = claim.judge(profile), claim.recorded(profile)
        if profile != "laptop" and not found["tables"]:
            assert profile not in committed(claim.chapter)["claims"][claim.id]
            continue
        assert (found["verdict"], found["why"], found["tables"]) == (kept["verdict"], kept["why"], kept["tables"])
        assert found["verdict"] in VERDICTS and found["data"] == kept["data"]
        assert numbers(found["ours"]) == numbers(kept["ours"])


@pytest.mark.parametrize("name", CLAIMS)
def test_what_was_attempted_has_a_live_test(name):
    """Breaks if a test is renamed; a test that only reads records is no evidence that a method works."""
    claim = CLAIMS[name]
    if claim.recorded()["verdict"] == NOT_ATTEMPTED:
        return
    path, _, function = claim.test.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    tests = {node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    assert function in tests, f"{claim.test} does not exist"
    assert "results" not in ast.unparse(tests[function]) and ".read(" not in ast.unparse(tests[function])


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS])
def test_record_has_these_claims_and_tables_and_no_others(chapter):
    record = committed(chapter)
    assert list(record["claims"]) == list(claims_of(chapter))
    assert set(record["tables"]) == set(record["probes"]) == set(tables_of(chapter))
    for name, table in tables_of(chapter).items():
        for entry in record["tables"][name].values():
            assert entry["columns"] == list(table.columns)


def test_a_verdict_is_not_typed_by_hand():
    """In no claims file and no notebook does a verdict stand as text."""
    for chapter in CHAPTERS:
        path = ROOT / "tenpapers" / chapter / "claims.py"
        if path.exists():
            strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            assert not strings & set(VERDICTS), path


def test_exact_claims_are_computed_and_not_read():
    """Breaks if an identity is judged from a recorded table, which no broken method changes."""
    for name, claim in CLAIMS.items():
        if isinstance(claim.rule, Exact):
            assert claim.recorded()["tables"] == [], name
