"""When does a claim hold? The rules that turn numbers into a verdict, all of them, in one place.

A number is *computed* (a float or a bool: nothing in it is drawn) or *measured* (a :class:`Sample`: its error is two
standard errors of its mean, infinite for one run). A rule judges every number that a claim tests; the claim stands if
all stand, is contradicted if one is, and is undecided otherwise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tenpapers.claims.sample import Sample

AGREES, TREND, UNDECIDED, DISAGREES, NOT_ATTEMPTED = VERDICTS = (
    "agrees",
    "agrees in trend",
    "undecided",
    "disagrees",
    "not attempted",
)
Number = Sample | float | int | bool


class Judgement(NamedTuple):
    """A verdict, one of ``VERDICTS``, and in a few words why."""

    verdict: str
    why: str


class Rule(Protocol):
    """Turns the tested numbers of a claim into a judgement."""

    @property
    def words(self) -> str:
        """The rule in a sentence."""
        ...

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        """Judge.

        Args:
            tested: Numbers by name.
            paper: The paper's figures by the same names; empty where there are none.
            same: These are the paper's own data and network, or its own mathematical object.
        """
        ...


@dataclass(frozen=True)
class Exact:
    """An identity or theorem, computed here and now: every residual within the tolerance, every statement true."""

    tolerance: float = 1e-9

    @property
    def words(self) -> str:
        return f"exact: every residual at most {self.tolerance:g}" if self.tolerance else "exact"

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        for name, value in _computed(tested, "Exact").items():
            holds = value if isinstance(value, bool) else abs(value) <= self.tolerance
            if not holds:
                return Judgement(DISAGREES, f"{name} fails")
        return Judgement(AGREES, self.words)


@dataclass(frozen=True)
class Deterministic:
    """A number computed exactly: |ours - paper's| at most ``tolerance``, times |paper's| where it is relative."""

    tolerance: float
    relative: bool = True

    @property
    def words(self) -> str:
        share = f"{100 * self.tolerance:g} % of the figure" if self.relative else f"{self.tolerance:g}"
        return f"computed: within {share}" if self.tolerance else "computed: equal to the figure"

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        _same_names(tested, paper)
        for name, value in _computed(tested, "Deterministic").items():
            allowed = self.tolerance * (abs(paper[name]) if self.relative else 1.0)
            if not abs(value - paper[name]) <= allowed:
                return Judgement(DISAGREES, f"{name}: beyond {self.tolerance:g}")
        return Judgement(AGREES, self.words)


@dataclass(frozen=True)
class Figure:
    """The paper's figure on the paper's data and network.

    Stands if |ours - paper| is at most two standard errors, or the figure's own rounding or reading error, and two
    standard errors are less than ``margin``, declared beforehand; contradicted beyond both; else undecided.
    """

    margin: float
    reading: float

    @property
    def words(self) -> str:
        return f"figure: within two standard errors or {self.reading:g}, and those below {self.margin:g}"

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        if not same:
            return Judgement(UNDECIDED, "a figure is compared on the paper's own data and network")
        _same_names(tested, paper)
        found = []
        for name, value in tested.items():
            mean, error = _two_errors(value)
            away = abs(mean - paper[name])
            near = away <= max(error, self.reading)
            stands = AGREES if near and error < self.margin else UNDECIDED if near else DISAGREES
            found.append((stands, name))
        return _all(found, self.words, same=True)


@dataclass(frozen=True)
class Threshold:
    """Every number beyond a bound by more than two standard errors: stands; on the other side by that: contradicted."""

    above: float | None = None
    below: float | None = None

    def __post_init__(self):
        if (self.above is None) == (self.below is None):
            raise ValueError(f"give one of above and below: got {self.above} and {self.below}")

    @property
    def words(self) -> str:
        side = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        return f"threshold: {side} by more than two standard errors"

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        if tested and all(isinstance(value, Sample) and value.n == 1 for value in tested.values()):
            return Judgement(UNDECIDED, "one run decides nothing")
        sign, bound = (1, self.above) if self.above is not None else (-1, self.below)
        assert bound is not None
        found = []
        for name, value in tested.items():
            mean, error = _two_errors(value)
            ahead = sign * (mean - bound)
            found.append((AGREES if ahead > error else DISAGREES if -ahead > error else UNDECIDED, name))
        return _all(found, self.words, same)


@dataclass(frozen=True)
class Direction:
    """Who is ahead of whom: every difference above zero by more than two standard errors of its mean, paired."""

    @property
    def words(self) -> str:
        return "direction: ahead by more than two standard errors, paired"

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        verdict, why = Threshold(above=0.0).judge(tested, paper, same)
        return Judgement(verdict, self.words if verdict in (AGREES, TREND) else why)


@dataclass(frozen=True)
class Equal:
    """No difference that matters: |number| and two standard errors together within a margin declared beforehand."""

    margin: float

    @property
    def words(self) -> str:
        return f"equal: within {self.margin:g}, two standard errors included"

    def judge(self, tested: Mapping[str, Number], paper: Mapping[str, float], same: bool) -> Judgement:
        found = []
        for name, value in tested.items():
            mean, error = _two_errors(value)
            inside, outside = abs(mean) + error <= self.margin, abs(mean) - error > self.margin
            found.append((AGREES if inside else DISAGREES if outside else UNDECIDED, name))
        return _all(found, self.words, same)


def _all(found: list[tuple[str, str]], words: str, same: bool) -> Judgement:
    """One contradiction contradicts a claim; else one doubt leaves it undecided."""
    if not found:
        raise ValueError("there is nothing to judge: the evidence has no number")
    for verdict, what in ((DISAGREES, "on the other side"), (UNDECIDED, "within two standard errors")):
        names = [name for stands, name in found if stands == verdict]
        if names:
            return Judgement(verdict, f"{what}: {', '.join(names)}")
    return Judgement(AGREES if same else TREND, words)


def _two_errors(value: Number) -> tuple[float, float]:
    """A number and two standard errors of it: none where it was computed, infinitely many where it was run once."""
    if isinstance(value, Sample):
        return value.mean, 2 * value.error
    if not math.isfinite(value):
        raise ValueError(f"a rule judges finite numbers: got {value}")
    return float(value), 0.0


def _computed(tested: Mapping[str, Number], rule: str) -> dict[str, float | bool]:
    if not tested:
        raise ValueError("there is nothing to judge: the evidence has no number")
    if measured := [name for name, value in tested.items() if isinstance(value, Sample)]:
        raise ValueError(f"{rule} is for computed numbers: {', '.join(measured)} was measured")
    return {name: value for name, value in tested.items() if not isinstance(value, Sample)}


def _same_names(tested: Mapping[str, Number], paper: Mapping[str, float]) -> None:
    if missing := set(tested) - set(paper):
        raise ValueError(f"the paper's figure is missing for {', '.join(sorted(missing))}")
