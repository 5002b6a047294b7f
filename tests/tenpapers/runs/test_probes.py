"""Every table's probe run again: a record is of the code that is here."""

import math

import pytest

from tenpapers.claims.ledger import CHAPTERS, tables_of
from tenpapers.runs.store import committed, plain

TABLES = {f"{chapter}.{name}": table for chapter in CHAPTERS for name, table in tables_of(chapter).items()}


@pytest.mark.parametrize("name", TABLES)
def test_probe_gives_the_recorded_answer(name):
    """Breaks if what a table's cells compute has changed since it was recorded."""
    table = TABLES[name]
    probe = committed(table.chapter)["probes"][table.name]
    assert probe["cell"] == plain(table.probe), "the probe was changed: python -m tenpapers probes"
    compared = [column for column in probe["columns"] if column not in table.timed]
    recorded = [dict(zip(probe["columns"], row, strict=True)) for row in probe["rows"]]
    answer = plain(table.answer(table.probe))
    assert len(answer) == len(recorded)
    for number, (again, was) in enumerate(zip(answer, recorded, strict=True)):
        for column in compared:
            a, b = again[column], was[column]
            if isinstance(b, float) and isinstance(a, float | int):
                near = math.isclose(a, b, rel_tol=table.tolerance, abs_tol=1e-3 * table.tolerance)
                assert near, (number, column, a, b)
            else:
                assert a == b, (number, column, a, b)


@pytest.mark.parametrize("name", TABLES)
def test_probe_is_short_and_no_cell_of_its_table(name):
    table = TABLES[name]
    assert committed(table.chapter)["probes"][table.name]["seconds"] <= 20  # ten on an idle machine
    assert all(table.probe != cell for profile in table.cells for cell in table.declared(profile))
