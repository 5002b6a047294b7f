"""What does the paper say, and does it hold here? A claim: evidence, a rule, and the verdict that follows.

Nobody writes a verdict: it is the rule's answer to the evidence, once a profile, and ``tenpapers/results`` keeps it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tenpapers.claims.rules import NOT_ATTEMPTED, UNDECIDED, Exact, Figure, Judgement, Number, Rule
from tenpapers.claims.sample import Sample
from tenpapers.page.text import number
from tenpapers.runs.store import COMMITTED, committed, own_folder, plain, read
from tenpapers.runs.table import RECORDED, NotRun, tables_read

CERTAINTY = ("printed", "read off a figure", "theorem")  # or "quoted by …": how sure the paper's figure is


class Unfair(Exception):
    """A comparison whose sides were not treated alike: what was not equal, or which baseline never learned.

    Args:
        why: What was not equal.
        ours: The numbers all the same, to be shown and not judged.
    """

    def __init__(self, why: str, ours: Mapping[str, Number] | None = None):
        super().__init__(why)
        self.ours = ours or {}


@dataclass(frozen=True)
class Evidence:
    """The numbers of a claim.

    Args:
        ours: What is shown, by name.
        tested: What the rule judges, by name (differences, say); by default what is shown.
    """

    ours: Mapping[str, Number]
    tested: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, and how it is judged.

    Args:
        chapter: Name of the notebook, without its ending.
        id: A Python name: the claim's own in ``tenpapers/<chapter>/claims.py``.
        statement: In our words.
        where: Its place in the paper.
        rule: One of ``tenpapers.claims.rules``.
        evidence: From a profile to :class:`Evidence`: reads recorded tables (and lets their ``NotRun`` pass), or
            computes. None where nothing here could attempt it.
        paper: The paper's figures by name, only where verified; where it has a formula, the formula as text, which no
            rule compares.
        certainty: How sure they are: ``printed``, ``read off a figure``, ``theorem`` or ``quoted by …``.
        equal: What is held equal in a comparison, in words; the evidence checks it by :func:`held_equal` and the like.
        same: Profiles whose runs are on the paper's own data and network, or its own mathematical object.
        missing: Where there is no evidence: what it would need.
        test: A test that fails if the method is broken, as ``tests/nnlib/test_x.py::test_y``.
    """

    chapter: str
    id: str
    statement: str
    where: str
    rule: Rule
    evidence: Callable[[str], Evidence] | None = None
    paper: Mapping[str, Any] = field(default_factory=dict)
    certainty: str = ""
    equal: str = ""
    same: tuple[str, ...] = ("paper",)
    missing: str = ""
    test: str = ""

    def __post_init__(self):
        if bool(self.paper) != bool(self.certainty):
            raise ValueError(
                f"{self.chapter}.{self.id}: a figure of the paper comes with how sure it is, and only then"
            )
        if self.certainty not in ("", *CERTAINTY) and not self.certainty.startswith("quoted by "):
            raise ValueError(
                f"certainty must be one of {', '.join(CERTAINTY)} or 'quoted by …': got {self.certainty!r}"
            )
        if (self.evidence is None) != bool(self.missing):
            raise ValueError(f"{self.chapter}.{self.id}: give evidence, or say what it would need")
        if isinstance(self.rule, Figure) and not self.paper:
            raise ValueError(f"{self.chapter}.{self.id}: a figure is compared with the paper's, which is missing")

    def judge(self, profile: str = "laptop") -> dict[str, Any]:
        """Gather the evidence and apply the rule.

        Returns:
            What is recorded: ``verdict, why, ours`` (by name: a number, or mean, error and n), ``tables`` and ``data``.
        """
        if profile not in RECORDED:
            raise ValueError(f"profile must be one of {', '.join(RECORDED)}: got {profile!r}")
        found: dict[str, Any] = {"ours": {}, "tables": [], "data": []}
        if self.evidence is None:
            return {"verdict": NOT_ATTEMPTED, "why": self.missing} | found
        with tables_read() as tables:
            try:
                evidence = self.evidence(profile)
            except NotRun:
                return {"verdict": NOT_ATTEMPTED, "why": "no such run on record"} | found
            except Unfair as reason:
                evidence, judgement = Evidence(reason.ours), Judgement(UNDECIDED, f"not a fair comparison: {reason}")
            else:
                tested = evidence.tested or evidence.ours
                judgement = self.rule.judge(tested, self.paper, profile in self.same)
        exact = isinstance(self.rule, Exact)
        found["ours"] = {} if exact else {name: _recorded(value) for name, value in evidence.ours.items()}
        # A table of another chapter is named with it.
        named = (t.name if t.chapter == self.chapter else f"{t.chapter}.{t.name}" for t in tables)
        found["tables"] = list(dict.fromkeys(named))
        found["data"] = list(dict.fromkeys(source for table in tables for source in table.read(profile).attrs["data"]))
        return {"verdict": judgement.verdict, "why": judgement.why} | found

    def recorded(self, profile: str = "laptop") -> dict[str, Any]:
        """What the book's record says of this claim; not attempted where it says nothing."""
        nothing = {"verdict": NOT_ATTEMPTED, "why": "not run", "ours": {}, "tables": [], "data": []}
        return committed(self.chapter)["claims"].get(self.id, {}).get(profile, nothing)

    def number(self, name: str = "", profile: str = "laptop") -> float:
        """One of the claim's recorded numbers (of a sample its mean), for a sentence.

        Raises:
            KeyError: where the record has no number of that name.
        """
        ours = self.recorded(profile)["ours"]
        if name not in ours:
            raise KeyError(f"{self.chapter}.{self.id} has no number {name!r}: known are {', '.join(map(repr, ours))}")
        return float(ours[name]["mean"] if isinstance(ours[name], dict) else ours[name])

    def own(self) -> dict[str, dict[str, Any]]:
        """What this user's own runs say, by profile, where they are kept apart from the book's."""
        if own_folder() == COMMITTED:
            return {}
        book, all_ = (content["claims"].get(self.id, {}) for content in (committed(self.chapter), read(self.chapter)))
        return {profile: entry for profile, entry in all_.items() if entry != book.get(profile)}

    def __repr__(self) -> str:
        lines = [f"{self.statement} ({self.where})"]
        if self.paper:
            lines.append(f"paper: {self.said_by_paper()}")
        for title, entry in self._shown():
            ours = say(entry["ours"])
            lines.append(f"{title}: {ours + ' · ' if ours else ''}{entry['verdict']} ({entry['why']})")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [("paper", self.said_by_paper())] if self.paper else []
        rows += [(title, say(entry["ours"])) for title, entry in self._shown() if entry["ours"]]
        if self.equal:
            rows.append(("must be equal", self.equal))
        listed = "".join(f"<dt>{escape(title)}</dt><dd>{escape(told)}</dd>" for title, told in rows)
        verdicts = "".join(
            f'<p class="claim-verdict" data-verdict="{escape(entry["verdict"])}">'
            f"<strong>{escape(entry['verdict'])}</strong>{'' if title == 'ours' else f' ({escape(title)})'} "
            f"<span>{escape(entry['why'])}</span></p>"
            for title, entry in self._shown()
        )
        return (
            f'<aside class="claim" id="claim-{escape(self.id)}"><p class="claim-statement">{escape(self.statement)} '
            f'<span class="claim-where">{escape(self.where)}</span></p>'
            f"{f'<dl>{listed}</dl>' if listed else ''}{verdicts}</aside>"
        )

    def said_by_paper(self) -> str:
        """The paper's figures as text, with how sure they are where they are not printed or proven."""
        sure = "" if self.certainty in ("", "printed", "theorem") else f" ({self.certainty})"
        return say(self.paper) + sure

    def _shown(self) -> list[tuple[str, dict[str, Any]]]:
        return [("ours", self.recorded()), *((f"your {profile} run", entry) for profile, entry in self.own().items())]


class Boxes:
    """Several claims, one below the other; made by :func:`show`."""

    def __init__(self, claims: tuple[Claim, ...]):
        self.claims = claims

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self.claims))

    def _repr_html_(self) -> str:
        return "\n".join(claim._repr_html_() for claim in self.claims)


def show(*claims: Claim) -> Boxes:
    """The boxes of several claims as the last line of a cell."""
    return Boxes(claims)


def held_equal(
    what: str, values: Mapping[str, float], within: float = 0.0, ours: Mapping[str, Number] | None = None
) -> None:
    """Refuse a comparison whose sides differ in what is held equal.

    Args:
        what: Operations, trials, seconds, ...
        values: By side.
        within: Largest relative difference that is allowed.
        ours: The claim's numbers, shown where the comparison is refused.

    Raises:
        Unfair: naming the sides that differ.

    >>> held_equal("trials", {"grid": 12, "random": 12})
    """
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if values[high] - values[low] > within * abs(values[high]):
        raise Unfair(f"{what}: {low} {number(values[low])}, {high} {number(values[high])}", ours)


def learned(what: str, accuracy: float, chance: float, ours: Mapping[str, Number] | None = None) -> None:
    """Refuse a comparison with a baseline that ended at chance.

    Args:
        what: The baseline.
        accuracy: Its accuracy.
        chance: That of guessing.
        ours: The claim's numbers, shown where the comparison is refused.

    Raises:
        Unfair: where the accuracy is not above 1.5 times chance.
    """
    if not accuracy > 1.5 * chance:
        raise Unfair(f"{what} ended at {number(accuracy)}, chance is {number(chance)}", ours)


def say(numbers: Mapping[str, Any]) -> str:
    """Recorded numbers as text, to three digits, with their errors."""
    told = []
    for name, value in numbers.items():
        if isinstance(value, dict):
            error = "one run" if value["error"] is None else f"± {number(value['error'], 2)}"
            text = f"{number(value['mean'])} {error}" if error != "one run" else f"{number(value['mean'])} ({error})"
        else:
            text = number(value)
        told.append(f"{name}: {text}" if name else text)
    return " · ".join(told)


def _recorded(value: Number) -> Any:
    if isinstance(value, Sample):
        return {"mean": value.mean, "error": value.error if value.n > 1 else None, "n": value.n}
    return plain(value)
