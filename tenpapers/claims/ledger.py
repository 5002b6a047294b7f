"""All claims of the book: found, judged, recorded, and set beside the paper's."""

from collections import Counter
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from tenpapers.claims.claim import Claim, say
from tenpapers.claims.rules import VERDICTS
from tenpapers.runs.store import replace
from tenpapers.runs.table import RECORDED, Table

# A chapter's room is a folder with claims; their order is that of their names, the book's is in ``_toc.yml``.
CHAPTERS = tuple(sorted(path.parent.name for path in Path(__file__).parents[1].glob("*/claims.py")))


def claims_of(chapter: str) -> dict[str, Claim]:
    """The claims of a chapter by id, in their order."""
    return _named(chapter, "claims", Claim)


def tables_of(chapter: str) -> dict[str, Table]:
    """The tables of a chapter by name, in their order."""
    return _named(chapter, "runs", Table)


def _named(chapter: str, module: str, kind: type) -> dict:
    if chapter not in CHAPTERS:
        raise ValueError(f"there is no chapter {chapter!r}: known are {', '.join(CHAPTERS)}")
    if find_spec(f"tenpapers.{chapter}.{module}") is None:  # a chapter without tables
        return {}
    room = import_module(f"tenpapers.{chapter}.{module}")
    found = {name: value for name, value in vars(room).items() if isinstance(value, kind)}
    for name, value in found.items():
        own = value.id if isinstance(value, Claim) else value.name
        if (own, value.chapter) != (name, chapter):
            raise ValueError(f"{room.__name__}.{name} calls itself {value.chapter}/{own}")
    return found


def judge(chapter: str, profiles: Iterable[str] = RECORDED, record: bool = False) -> pd.DataFrame:
    """Judge the claims of a chapter; with ``record``, replace what is recorded of them.

    Returns:
        One row a claim and profile that was run: ``claim, profile, before, verdict, why``.
    """
    rows, judged = [], {}
    for name, claim in claims_of(chapter).items():
        for profile in profiles:
            found = claim.judge(profile)
            if not found["tables"] and profile != "laptop":
                continue  # no run of this profile; what is computed is recorded once
            judged.setdefault(name, {})[profile] = found
            before = claim.recorded(profile)["verdict"]
            rows.append(
                {"claim": name, "profile": profile, "before": before} | {k: found[k] for k in ("verdict", "why")}
            )
    if record:
        with replace(chapter) as content:
            content["claims"] = judged
    return pd.DataFrame(rows)


def ledger(chapter: str, profile: str = "laptop") -> pd.DataFrame:
    """The paper beside ours: one row a claim, ``statement, paper, ours, verdict``, from the book's record."""
    rows = []
    for claim in claims_of(chapter).values():
        entry = claim.recorded(profile)
        ours = say(entry["ours"])
        rows.append(
            {"statement": claim.statement, "paper": claim.said_by_paper(), "ours": ours, "verdict": entry["verdict"]}
        )
    return pd.DataFrame(rows)


def counts(chapter: str, profile: str = "laptop") -> dict[str, int]:
    """How many claims have each verdict."""
    found = Counter(claim.recorded(profile)["verdict"] for claim in claims_of(chapter).values())
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}
