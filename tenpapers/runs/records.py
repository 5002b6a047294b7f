"""What did we find, beside what the paper says? Claims and tables, recorded once and checked ever after.

``results/<chapter>.json`` is written by ``make reproduce`` only (it sets ``NNLIB_RECORD``). Everywhere else the same
calls compare what was just computed with what is recorded, and write nothing.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from tenpapers.runs.old_store import how, read, write
from tenpapers.runs.profiles import PROFILES
from tenpapers.runs.store import machine, plain

VERDICTS = ("agrees", "agrees in trend", "disagrees", "not attempted")
Numbers = Any  # a number, a bool, None, or a dict of those by name


class RecordMismatch(AssertionError):
    """What was computed is not what is recorded, or there is no record to compare with."""


def record(
    chapter: str,
    claim: str,
    *,
    statement: str,
    where: str,
    ours: Numbers,
    verdict: str,
    test: str,
    profile: str,
    data: str,
    seconds: float,
    config: Mapping[str, Any],
    paper: Numbers = None,
    spread: Any = None,
    tolerance: float = 1e-6,
) -> None:
    """Record a claim under ``NNLIB_RECORD``; otherwise check it against the record and write nothing.

    A number agrees with the record if it lies within the recorded ``spread``, or within ``tolerance`` times the
    recorded number where there is none. The rest (statement, verdict, config, ...) must be the same. A run with
    another ``config["seed"]`` is compared where a spread is recorded, for that is what a spread is for, and not
    otherwise.

    Args:
        chapter: Name of the notebook, without its ending.
        claim: Short name of the claim, unique in its chapter.
        statement: The claim in our words.
        where: Its place in the paper: section, figure or table.
        ours: What we measured: a number, a bool, or a dict of those by name; None where nothing was attempted.
        verdict: One of ``agrees``, ``agrees in trend``, ``disagrees``, ``not attempted``.
        test: Where the claim is checked again, as ``tests/nnlib/test_x.py::test_y``.
        profile: ``quick``, ``laptop`` or ``paper``.
        data: Where the data came from, in words: ``Dataset.source``, or "none: exact computation".
        seconds: How long it took.
        config: Sizes and hyperparameters, ``seed`` among them where there is one.
        paper: The paper's figure, only where it was verified.
        spread: ``[low, high]`` over seeds, or a dict of those by name.
        tolerance: Relative tolerance where there is no spread; 0 for exact.

    Raises:
        ValueError: for a verdict, profile or value that a record cannot hold.
        RecordMismatch: where the numbers or words differ from the record, or there is none.

    Chapter: all.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}: got {verdict!r}")
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}: got {profile!r}")
    if (ours is None) != (verdict == "not attempted"):
        raise ValueError(f"ours is None exactly where the verdict is 'not attempted': got {ours!r} and {verdict!r}")
    words = {"statement": statement, "where": where, "paper": plain(paper), "verdict": verdict, "test": test}
    run = {"ours": plain(ours), "spread": plain(spread), "tolerance": tolerance, "data": data, "config": plain(config)}
    _check_spread(claim, run["ours"], run["spread"])
    if os.environ.get("NNLIB_RECORD"):
        content = read(chapter, missing_ok=True)
        entry = content["claims"].setdefault(claim, {"runs": {}})
        entry |= words
        entry["runs"][profile] = run | {"seconds": round(seconds, 1)} | machine()
        write(chapter, content)
        return
    entry = recorded(chapter)["claims"].get(claim)
    if entry is None or profile not in entry["runs"]:
        raise RecordMismatch(
            f"{chapter}: claim {claim!r} has no record for profile {profile!r}: {how(chapter, profile)}"
        )
    _compare(chapter, claim, words, run, entry, entry["runs"][profile])


def recorded(chapter: str) -> dict[str, Any]:
    """All that is recorded of a chapter: ``{"chapter": ..., "claims": {...}, "tables": {...}}``.

    Raises:
        FileNotFoundError: where there is no ``results`` folder, or no record of this chapter in it.
    """
    return read(chapter, missing_ok=False)


def recorded_table(chapter: str, name: str) -> pd.DataFrame:
    """A table as the laptop profile recorded it, its data, config and machine in ``attrs``.

    Raises:
        RecordMismatch: where there is no such run.
    """
    entry = recorded(chapter)["tables"].get(name, {}).get("laptop")
    if entry is None:
        raise RecordMismatch(f"{chapter}: table {name!r} has no laptop run on record: {how(chapter, 'laptop')}")
    return _frame(entry)


def _frame(entry: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(entry["rows"], columns=entry["columns"])
    frame.attrs = {key: entry[key] for key in ("data", "config", "seconds", "hardware", "versions")}
    return frame


def claims(chapter: str) -> pd.DataFrame:
    """The paper beside ours: one row a claim, ``claim, statement, where, paper, ours, profile, verdict``.

    ``ours`` and ``profile`` are those of the largest profile that was run.
    """
    rows = []
    for name, entry in recorded(chapter)["claims"].items():
        profile = max(entry["runs"], key=PROFILES.index)
        rows.append(
            {
                "claim": name,
                "statement": entry["statement"],
                "where": entry["where"],
                "paper": _say(entry["paper"]),
                "ours": _say(entry["runs"][profile]["ours"]),
                "profile": profile,
                "verdict": entry["verdict"],
            }
        )
    return pd.DataFrame(rows)


def table(
    chapter: str,
    name: str,
    compute: Callable[[], pd.DataFrame],
    profile: str,
    *,
    data: str,
    config: Mapping[str, Any],
) -> pd.DataFrame:
    """A long table: computed in the profiles *laptop* and *paper*, read from the laptop's record in *quick*.

    Under ``NNLIB_RECORD`` the computed table is written. The frame's ``attrs`` say where it is from: ``profile``,
    ``data``, ``config``, ``seconds`` and ``hardware``.

    Args:
        chapter: Name of the notebook, without its ending.
        name: Short name of the table, unique in its chapter.
        compute: Returns the tidy frame; not called in *quick*. Its ``attrs["seconds"]``, as a sweep sets it, is
            recorded as the time, since a sweep may have been answered from its cache.
        profile: ``quick``, ``laptop`` or ``paper``.
        data: Where the data came from, in words.
        config: Sizes and hyperparameters.

    Raises:
        RecordMismatch: in *quick*, where no laptop run is recorded.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}: got {profile!r}")
    if profile == "quick":
        return recorded_table(chapter, name)
    start = time.perf_counter()
    frame = compute()
    entry = {
        "data": data,
        "config": plain(config),
        "columns": [str(column) for column in frame.columns],
        "rows": [[plain(value) for value in row] for row in frame.itertuples(index=False, name=None)],
        "seconds": round(frame.attrs.get("seconds", time.perf_counter() - start), 1),
    } | machine()
    if os.environ.get("NNLIB_RECORD"):
        content = read(chapter, missing_ok=True)
        content["tables"].setdefault(name, {})[profile] = entry
        write(chapter, content)
    return _frame(entry)


def _compare(chapter: str, claim: str, words: dict, run: dict, entry: dict, old: dict) -> None:
    """Raise unless the new words and numbers are those of the record."""
    again = how(chapter, "")
    config, old_config = ({k: v for k, v in c.items() if k != "seed"} for c in (run["config"], old["config"]))
    told = {**words, "data": run["data"], "config": config, "tolerance": run["tolerance"]}
    held = {**{key: entry[key] for key in words}, "data": old["data"], "config": old_config}
    held["tolerance"] = old["tolerance"]
    for key, value in told.items():
        if value != held[key]:
            raise RecordMismatch(f"{chapter}: claim {claim!r} says {key} = {value!r}, recorded {held[key]!r}: {again}")
    ours, recorded_ours = _by_name(run["ours"]), _by_name(old["ours"])
    if set(ours) != set(recorded_ours):
        raise RecordMismatch(
            f"{chapter}: claim {claim!r} has {sorted(ours)}, recorded {sorted(recorded_ours)}: {again}"
        )
    spread = _by_name(old["spread"])
    same_seed = run["config"].get("seed") == old["config"].get("seed")
    for name, value in ours.items():
        was, interval = recorded_ours[name], spread.get(name)
        if interval is not None:
            low, high = interval
            # Written in decimal and read back, an end of the interval is the same double: no slack is needed.
            good, allowed = value is not None and low <= value <= high, f"between {low!r} and {high!r}"
        elif not same_seed:
            continue
        elif isinstance(was, float | int) and not isinstance(was, bool) and isinstance(value, float | int):
            good, allowed = abs(value - was) <= old["tolerance"] * abs(was), f"within {old['tolerance']:g} of {was!r}"
        else:
            good, allowed = value == was, repr(was)
        if not good:
            what = f"{claim!r}, {name}" if name else repr(claim)
            raise RecordMismatch(f"{chapter}: claim {what}: ours is {value!r}, the record allows {allowed}: {again}")


def _by_name(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"": value}


def _check_spread(claim: str, ours: Any, spread: Any) -> None:
    """A spread must be an interval around a number that is there."""
    if spread is None:
        return
    numbers = _by_name(ours)
    for name, interval in _by_name(spread).items():
        good = isinstance(interval, list) and len(interval) == 2 and None not in interval and name in numbers
        if not good or numbers[name] is None or not interval[0] <= numbers[name] <= interval[1]:
            raise ValueError(f"spread of {claim!r} must be [low, high] around ours = {ours!r}: got {spread!r}")


def _say(value: Any) -> str:
    """A recorded value as a table shows it: three significant digits."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_say(item)}" for name, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 10_000):
        return f"{value:.3g}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:.2e}"
    return str(value)
