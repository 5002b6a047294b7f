"""A claim: its verdict follows from its evidence, profile by profile, and it shows itself."""

import json

import pandas as pd
import pytest

from tenpapers.claims import (
    Claim,
    Direction,
    Evidence,
    Exact,
    Figure,
    Sample,
    Unfair,
    held_equal,
    learned,
    paired,
    show,
)
from tenpapers.claims.rules import AGREES, NOT_ATTEMPTED, TREND, UNDECIDED
from tenpapers.runs import Table
from tenpapers.runs.store import replace


def answer(method, seed, steps=10):
    return {"loss": {"plain": 3.0, "ours": 1.0}[method] + 0.1 * seed}


table = Table(
    "demo",
    "losses",
    answer,
    {
        p: lambda p=p: [{"method": m, "seed": s} for m in ("plain", "ours") for s in range(3)]
        for p in ("laptop", "paper")
    },
    columns=("method", "seed", "loss"),
    probe={"method": "ours", "seed": 9},
)


def evidence(profile):
    frame = table.read(profile)
    gain = paired(frame, "loss", "method", "plain", "ours")
    return Evidence({"gain": gain})


def claim(**changes):
    given = {"statement": "Ours is lower than plain <by far>.", "where": "table 1", "rule": Direction()}
    return Claim(**({"chapter": "demo", "id": "lower", "evidence": evidence} | given | changes))


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path))
    monkeypatch.setattr("tenpapers.runs.store.COMMITTED", tmp_path)
    monkeypatch.setattr("tenpapers.claims.claim.COMMITTED", tmp_path)
    return tmp_path


def test_not_attempted_follows_from_there_being_no_run_and_goes_away_with_one(results):
    assert claim().judge("laptop")["verdict"] == NOT_ATTEMPTED
    table.reproduce("laptop", n_jobs=1, say=lambda line: None)
    found = claim().judge("laptop")
    assert found["verdict"] == TREND and found["tables"] == ["losses"]
    assert found["ours"]["gain"] == {"mean": pytest.approx(2.0), "error": pytest.approx(0.0, abs=1e-9), "n": 3}
    assert claim().judge("paper")["verdict"] == NOT_ATTEMPTED


def test_a_paper_run_gives_a_verdict_of_its_own_beside_the_laptops(results):
    for profile in ("laptop", "paper"):
        table.reproduce(profile, n_jobs=1, say=lambda line: None)
    assert [claim().judge(profile)["verdict"] for profile in ("laptop", "paper")] == [TREND, AGREES]


def test_an_unfair_comparison_is_undecided_says_why_and_shows_its_numbers(results):
    def unfair(profile):
        held_equal("trials", {"grid": 3, "random": 12}, ours={"gain": 7.0})
        return Evidence({"gain": 7.0})

    found = claim(evidence=unfair).judge("laptop")
    assert found["verdict"] == UNDECIDED and "trials: grid 3, random 12" in found["why"]
    assert found["ours"] == {"gain": 7.0}


def test_held_equal_allows_a_relative_difference_and_no_more():
    held_equal("operations", {"a": 95, "b": 100}, within=0.05)
    with pytest.raises(Unfair, match="operations: a 94, b 100"):
        held_equal("operations", {"a": 94, "b": 100}, within=0.05)


def test_a_baseline_at_chance_is_refused():
    learned("plain", 0.2, chance=0.1)
    with pytest.raises(Unfair, match="plain ended at"):
        learned("plain", 0.12, chance=0.1)


def test_an_error_in_the_evidence_is_an_error():
    """Breaks if a fault in a claim were taken for a missing run."""
    with pytest.raises(KeyError):
        claim(evidence=lambda profile: {}["nothing"]).judge("laptop")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paper": {"gain": 2.0}}, "how sure"),
        ({"certainty": "printed"}, "how sure"),
        ({"paper": {"gain": 2.0}, "certainty": "surely"}, "certainty must be one of"),
        ({"evidence": None}, "say what it would need"),
        ({"missing": "a GPU"}, "say what it would need"),
        ({"rule": Figure(1.0, 0.1)}, "the paper's, which is missing"),
    ],
)
def test_a_claim_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        claim(**changes)


def test_another_profile_is_refused():
    with pytest.raises(ValueError, match="one of laptop, paper"):
        claim().judge("quick")


def test_exact_claims_show_no_residual(results):
    found = claim(rule=Exact(), evidence=lambda profile: Evidence({"residual": 3e-17})).judge("laptop")
    assert found["verdict"] == AGREES and found["ours"] == {}


def recorded(entry):
    with replace("demo") as content:
        content["claims"]["lower"] = {"laptop": entry}


def test_a_box_shows_statement_figure_numbers_and_verdict(results):
    numbers = {"gain": {"mean": 2.0, "error": 0.123, "n": 3}, "runs": 3}
    recorded({"verdict": TREND, "why": "ahead", "ours": numbers, "tables": ["losses"], "data": ["digits"]})
    box = claim(paper={"gain": 2.5}, certainty="read off a figure", equal="steps")
    text = repr(box)
    assert "paper: gain: 2.50 (read off a figure)" in text
    assert f"ours: gain: 2.00 ± 0.12 · runs: 3 · {TREND} (ahead)" in text
    html = box._repr_html_()
    assert "&lt;by far&gt;" in html and "<dt>must be equal</dt><dd>steps</dd>" in html
    assert f'data-verdict="{TREND}"' in html
    assert show(box, box)._repr_html_().count("<aside") == 2


def test_one_run_is_said(results):
    recorded(
        {
            "verdict": UNDECIDED,
            "why": "x",
            "ours": {"gain": {"mean": 2.0, "error": None, "n": 1}},
            "tables": [],
            "data": [],
        }
    )
    assert "gain: 2.00 (one run)" in repr(claim())


def test_a_users_own_run_stands_beside_the_books_and_never_over_it(results, tmp_path_factory, monkeypatch):
    recorded({"verdict": TREND, "why": "ahead", "ours": {"gain": 2.0}, "tables": [], "data": []})
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("NNLIB_RESULTS", str(own))
    assert "your" not in repr(claim())
    recorded({"verdict": UNDECIDED, "why": "near", "ours": {"gain": 0.1}, "tables": [], "data": []})
    text = repr(claim())
    assert "ours: gain: 2.00" in text and f"your laptop run: gain: 0.100 · {UNDECIDED}" in text
    assert json.loads((results / "demo.json").read_text())["claims"]["lower"]["laptop"]["why"] == "ahead"


def test_pairs_need_the_same_seeds():
    frame = pd.DataFrame({"method": list("aab"), "seed": [0, 1, 0], "loss": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="the same seeds"):
        paired(frame, "loss", "method", "a", "b")
    assert paired(frame[frame.seed == 0], "loss", "method", "b", "a") == Sample((2.0,))
