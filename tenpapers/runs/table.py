"""What does a chapter run? Tables: cells, the function that runs one, and what is recorded of each.

A chapter declares its tables in ``tenpapers/<chapter>/runs.py``; ``python -m tenpapers reproduce`` fills them, and its
notebook, figures and claims read them.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import joblib
import pandas as pd

from tenpapers.runs.cache import attempt, cache_folder, cache_key, fingerprint
from tenpapers.runs.profiles import PROFILES
from tenpapers.runs.store import machine, plain, read, replace

Cell = dict[str, Any]
SAVE_EVERY = 10.0  # seconds between two writes of a record that grows
RECORDED = ("laptop", "paper")
_reading: ContextVar[tuple[list["Table"], ...]] = ContextVar("_reading", default=())


class NotRun(LookupError):
    """A table has no recorded run of this profile; the message says how to make it."""


@contextmanager
def tables_read() -> Iterator[list["Table"]]:
    """Listen: the list fills with the tables that are read inside."""
    heard: list[Table] = []
    token = _reading.set((*_reading.get(), heard))
    try:
        yield heard
    finally:
        _reading.reset(token)


@dataclass(frozen=True)
class Table:
    """One table of runs.

    Args:
        chapter: Name of the notebook, without its ending.
        name: A Python name, unique in its chapter.
        run: Runs one cell: takes its entries as keywords, returns a row, or a list of rows, as dicts.
        cells: For a profile, its cells; a profile that is not there has none. Functions, so that nothing is loaded
            before it is needed.
        columns: What a row holds, in this order: entries of the cell and of the answer; others are not recorded.
        probe: A cell of at most ten seconds, not one of those above, whose answer is recorded too and computed again by
            the tests.
        tolerance: Relative, of numbers of the probe on another processor.
        timed: Columns that hold seconds, bytes or the like, which the probe does not compare.
        hours: About how long the laptop's cells take on 2 cores, where that is more than half an hour.

    >>> def area(width, height):
    ...     return {"area": width * height}
    >>> cells = lambda: [{"width": w, "height": 3} for w in (1, 2)]
    >>> table = Table("demo", "areas", area, {"laptop": cells}, ("width", "area"), probe={"width": 4, "height": 5})
    >>> table.answer(table.probe)
    [{'width': 4, 'area': 20}]
    """

    chapter: str
    name: str
    run: Callable[..., Cell | list[Cell]]
    cells: Mapping[str, Callable[[], Sequence[Cell]]]
    columns: Sequence[str]
    probe: Cell
    tolerance: float = 1e-6
    timed: Sequence[str] = ()
    hours: float | None = None

    def read(self, profile: str = "laptop", **where: Any) -> pd.DataFrame:
        """The recorded rows; *quick* reads the laptop's.

        Args:
            profile: One of the three.
            where: Only rows with this value in that column, or one of these values where it is a list.

        Returns:
            One row a recorded row, in the order of the declared cells, whenever each was run. ``attrs`` hold
            ``profile``, ``data`` (what was loaded, a list), ``seconds``, ``hardware``, and ``waiting``, the number of
            cells that are declared and not recorded.

        Raises:
            NotRun: where no such row is recorded.
        """
        profile = "laptop" if _known(profile) == "quick" else profile
        entry = self._entry(profile)
        if entry is None or not entry["rows"]:
            raise NotRun(f"{self.chapter}: table {self.name!r} has no {profile} run on record: {self.how(profile)}")
        for heard in _reading.get():  # before the cells are declared, which may read another table
            heard.append(self)
        answers = [_rows_of(entry, cell) for cell in self.declared(profile)]
        # Those of the declared cells in their order, then those of cells that are declared no more.
        order = dict.fromkeys([*(n for numbers in answers for n in numbers if n >= 0), *range(len(entry["rows"]))])
        frame = pd.DataFrame([entry["rows"][n] for n in order], columns=entry["columns"])
        for column, values in where.items():
            frame = frame[frame[column].isin(values if isinstance(values, list | tuple) else [values])]
        if frame.empty:
            raise NotRun(f"{self.chapter}: table {self.name!r} has no {profile} run with {where}: {self.how(profile)}")
        frame = frame.reset_index(drop=True)
        before, made = entry.get("before"), entry["made"]
        loaded = [before["data"] if before else [], *(run["data"] for run in entry["runs"])]
        frame.attrs = {
            "profile": profile,
            "data": list(dict.fromkeys(source for sources in loaded for source in sources)),
            "seconds": (before["seconds"] if before else 0) + sum(run["seconds"] for run in entry["runs"]),
            "hardware": (before if before and not made else made[-1])["hardware"],
            "waiting": sum(not numbers for numbers in answers),
        }
        return frame

    def declared(self, profile: str) -> list[Cell]:
        """The cells of a profile; none where it has none."""
        return list(self.cells[profile]()) if profile in self.cells else []

    def waiting(self, profile: str) -> list[Cell]:
        """The cells of a profile that no record answers."""
        entry = self._entry(profile)
        return [cell for cell in self.declared(profile) if entry is None or not _rows_of(entry, cell)]

    def stale(self, profile: str) -> int | None:
        """How many recorded runs stand on other source than today's; None where some do not say on which."""
        entry = self._entry(profile)
        if entry is None:
            return 0
        return None if entry.get("before") else sum(run["source"] != self.source() for run in entry["runs"])

    def source(self) -> str:
        """A hash of the source that a run stands on."""
        return fingerprint(self.run)[:16]

    def answer(self, cell: Cell) -> list[Cell]:
        """Run a cell here and now: its rows, with the columns of this table."""
        rows = self.run(**cell)
        return [self._row(cell, row) for row in (rows if isinstance(rows, list) else [rows])]

    def reproduce(
        self,
        profile: str,
        where: Mapping[str, Any] | None = None,
        n_jobs: int = -1,
        again: bool = False,
        say: Callable[[str], None] = print,
    ) -> int:
        """Run the cells that are not recorded, and record each soon after it is finished.

        An interrupted run loses no finished cell: the next one goes on. Answers are cached, too, by cell and source.

        Args:
            profile: ``laptop`` or ``paper``.
            where: Only the cells with these entries, compared as text.
            n_jobs: As in joblib.
            again: Run also what is recorded.
            say: Takes a line for each cell.

        Returns:
            The number of cells that failed; what they said is told.

        Raises:
            ValueError: where no cell has these entries.
        """
        cells = self.declared(profile)
        asked = {key: str(value) for key, value in (where or {}).items()}
        chosen = [cell for cell in cells if all(str(cell.get(key)) == value for key, value in asked.items())]
        if asked and not chosen:
            raise ValueError(f"no cell of {self.chapter}/{self.name}, {profile}, has {dict(where or {})}")
        if not again:
            open_cells = self.waiting(profile)
            chosen = [cell for cell in chosen if cell in open_cells]
        finished: list[tuple[Cell, list[Cell], float, list[str]]] = []
        failed, saved = 0, time.monotonic()
        key, folder = cache_key(self.run), cache_folder()
        calls = (joblib.delayed(attempt)(self.run, key, cell, folder) for cell in chosen)
        answers: Any = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls)
        try:
            for number, (cell, rows, seconds, data, error) in enumerate(answers, start=1):
                told = ", ".join(f"{k}={v}" for k, v in cell.items())
                say(f"{self.chapter}/{self.name} {number}/{len(chosen)} {seconds:.1f} s {told}" + (error or ""))
                if error:
                    failed += 1
                    continue
                finished.append((cell, [self._row(cell, row) for row in rows], seconds, data))
                if time.monotonic() - saved > SAVE_EVERY:
                    self._save(profile, finished)
                    finished, saved = [], time.monotonic()
        finally:
            self._save(profile, finished)
        return failed

    def record_probe(self) -> None:
        """Run the probe and record its answer."""
        start = time.perf_counter()
        rows = self.answer(self.probe)
        entry = {
            "cell": plain(self.probe),
            "columns": list(self.columns),
            "rows": _listed(rows, self.columns),
            "seconds": round(time.perf_counter() - start, 1),
            "source": self.source(),
        }
        with replace(self.chapter) as content:
            content["probes"][self.name] = entry

    def how(self, profile: str) -> str:
        """The command that runs this table."""
        return f"python -m tenpapers reproduce {self.chapter} --table {self.name} --profile {profile}"

    def _row(self, cell: Cell, answer: Cell) -> Cell:
        found = {**cell, **answer}
        if missing := [name for name in self.columns if name not in found]:
            raise KeyError(f"{self.chapter}/{self.name}: a row lacks {', '.join(missing)}")
        return {name: found[name] for name in self.columns}

    def _entry(self, profile: str) -> dict[str, Any] | None:
        return read(self.chapter)["tables"].get(self.name, {}).get(_known(profile))

    def _save(self, profile: str, finished: list[tuple[Cell, list[Cell], float, list[str]]]) -> None:
        """Put finished cells into the record, in place of what it has of them."""
        if not finished:
            return
        with replace(self.chapter) as content:
            entry = (
                content["tables"]
                .setdefault(self.name, {})
                .setdefault(profile, {"columns": list(self.columns), "rows": [], "runs": [], "made": []})
            )
            if entry["columns"] != list(self.columns):
                raise ValueError(
                    f"{self.chapter}/{self.name}: the record has the columns {', '.join(entry['columns'])}, "
                    f"the table {', '.join(self.columns)}: remove its {profile} record and run all of it again"
                )
            here = machine()
            if here not in entry["made"]:
                entry["made"].append(here)
            for cell, rows, seconds, data in finished:
                _forget(entry, plain(cell))
                entry["rows"] += _listed(rows, self.columns)
                run = {"cell": plain(cell), "rows": len(rows), "seconds": round(seconds, 1), "source": self.source()}
                entry["runs"].append(run | {"data": data, "made": entry["made"].index(here)})


def _known(profile: str) -> str:
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}: got {profile!r}")
    return profile


def _listed(rows: list[Cell], columns: Sequence[str]) -> list[list[Any]]:
    return [[plain(row[name]) for name in columns] for row in rows]


def _rows_of(entry: dict[str, Any], cell: Cell) -> list[int]:
    """Numbers of the rows that answer a cell: those of its run, or, from before runs were kept, those like it."""
    start = entry["before"]["rows"] if entry.get("before") else 0
    cell = plain(cell)
    for run in entry["runs"]:
        if run["cell"] == cell:
            return list(range(start, start + run["rows"])) or [-1]
        start += run["rows"]
    shared = [(i, cell[name]) for i, name in enumerate(entry["columns"]) if name in cell]
    before = entry["rows"][: entry["before"]["rows"]] if entry.get("before") else []
    return [number for number, row in enumerate(before) if all(row[i] == value for i, value in shared)]


def _forget(entry: dict[str, Any], cell: Cell) -> None:
    """Take a cell's rows out of a record."""
    gone = set(_rows_of(entry, cell))
    if before := entry.get("before"):
        before["rows"] -= sum(number < before["rows"] for number in gone)
        if not before["rows"]:
            del entry["before"]
    entry["rows"] = [row for number, row in enumerate(entry["rows"]) if number not in gone]
    entry["runs"] = [run for run in entry["runs"] if run["cell"] != cell]
