"""Tables: cells run once and are recorded one by one; what is read is what was run, and says on what it stands."""

import json
import os
import subprocess
import sys
from dataclasses import replace as changed
from pathlib import Path

import pandas as pd
import pytest

from tenpapers.data import load
from tenpapers.runs import NotRun, Table
from tenpapers.runs import store as store_module
from tenpapers.runs.store import read, replace
from tenpapers.runs.table import tables_read

CALLS: list[dict] = []
NOTE = CALLS.append  # a list that a function reads would be a part of what its answer depends on


def cube(x, base=1, name=None):
    """Two rows a cell; 13 fails."""
    NOTE({"x": x, "base": base})
    if x == 13:
        raise ArithmeticError("unlucky")
    if name is not None:
        load(name)
    return [{"power": n, "value": base * float(x) ** n} for n in (2, 3)]


def cells():
    return [{"x": x, "base": base} for base in (1, 2) for x in (2, 3)]


TABLE = Table("demo", "cubes", cube, {"laptop": cells}, ("x", "base", "power", "value"), probe={"x": 7, "base": 1})


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("NNLIB_CACHE", str(tmp_path / "cache"))
    CALLS.clear()
    return tmp_path / "results"


def run(table=TABLE, profile="laptop", **options):
    return table.reproduce(profile, n_jobs=1, say=lambda line: None, **options)


def test_what_is_read_is_what_was_run():
    assert run() == 0
    frame = TABLE.read()
    assert frame.columns.tolist() == ["x", "base", "power", "value"] and len(frame) == 8
    assert frame[(frame.x == 3) & (frame.base == 2)].value.tolist() == [18.0, 54.0]
    assert frame.attrs["waiting"] == 0 and frame.attrs["hardware"]["cpu"] and frame.attrs["profile"] == "laptop"


def test_quick_reads_the_laptops_record_and_computes_nothing():
    run()
    CALLS.clear()
    pd.testing.assert_frame_equal(TABLE.read("quick"), TABLE.read("laptop"))
    assert not CALLS


def test_without_a_run_the_command_that_makes_one_is_named():
    command = "python -m tenpapers reproduce demo --table cubes --profile laptop"
    with pytest.raises(NotRun, match=f"no laptop run on record: {command}"):
        TABLE.read()
    with pytest.raises(ValueError, match="profile must be one of"):
        TABLE.read("huge")


def test_rows_can_be_picked_and_none_is_not_an_empty_frame():
    run()
    assert TABLE.read(x=2, power=[2, 3]).value.tolist() == [4.0, 8.0, 8.0, 16.0]
    with pytest.raises(NotRun, match="no laptop run with"):
        TABLE.read(x=99)


def test_a_second_run_runs_nothing_and_again_runs_everything(monkeypatch, tmp_path):
    run()
    assert len(CALLS) == 4
    run()
    assert len(CALLS) == 4
    monkeypatch.setenv("NNLIB_CACHE", str(tmp_path / "another"))
    run(again=True)
    assert len(CALLS) == 8 and len(TABLE.read()) == 8


def test_only_some_cells_can_be_run_and_the_rest_is_said_to_be_waiting():
    run(where={"base": "2", "x": 3})
    assert CALLS == [{"x": 3, "base": 2}] and TABLE.read().attrs["waiting"] == 3
    assert TABLE.waiting("laptop") == [{"x": 2, "base": 1}, {"x": 3, "base": 1}, {"x": 2, "base": 2}]
    with pytest.raises(ValueError, match="no cell of demo/cubes"):
        run(where={"base": 5})


def test_a_cell_that_fails_is_told_and_stops_no_other():
    table = changed(TABLE, cells={"laptop": lambda: [{"x": 13}, {"x": 2}]}, columns=("x", "power", "value"))
    told = []
    assert table.reproduce("laptop", n_jobs=1, say=told.append) == 1
    assert any("ArithmeticError: unlucky" in line for line in told)
    assert table.read().x.tolist() == [2, 2] and table.waiting("laptop") == [{"x": 13}]


def test_an_interruption_loses_no_finished_cell(results, monkeypatch):
    """Breaks if rows were written only at the end."""
    monkeypatch.setattr("tenpapers.runs.table.SAVE_EVERY", 0.0)
    written = []

    def stop(line):
        written.append(line)
        if len(written) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TABLE.reproduce("laptop", n_jobs=1, say=stop)
    assert len(TABLE.read()) == 4
    run()
    assert len(TABLE.read()) == 8


def test_a_killed_run_goes_on_where_it_was(tmp_path, results):
    script = tmp_path / "killed.py"
    script.write_text(
        "import os\n"
        "from tenpapers.runs import Table\n"
        "import tenpapers.runs.table\n"
        "tenpapers.runs.table.SAVE_EVERY = 0.0\n"
        "def cell(i):\n"
        "    if i == 2 and not os.path.exists('again'):\n"
        "        os._exit(9)\n"
        "    return {'square': i * i}\n"
        "cells = {'laptop': lambda: [{'i': i} for i in range(4)]}\n"
        "t = Table('demo', 'squares', cell, cells, ('i', 'square'), {'i': 9})\n"
        "t.reproduce('laptop', n_jobs=1, say=lambda line: None)\n"
        "print(t.read().square.tolist())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(script)]
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == 9
    assert len(json.loads((results / "demo.json").read_text())["tables"]["squares"]["laptop"]["rows"]) == 2
    (tmp_path / "again").touch()
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 1, 4, 9]"


def test_each_run_says_what_it_loaded_also_from_memory():
    """Breaks if provenance were written by hand, or lost where an answer comes from the cache."""
    table = changed(TABLE, cells={"laptop": lambda: [{"x": 2, "name": "digits"}]}, columns=("x", "power", "value"))
    run(table)
    assert table.read().attrs["data"] == [load("digits").source]
    run(table, again=True)
    assert table.read().attrs["data"] == [load("digits").source] and len(CALLS) == 1


def test_each_run_carries_the_hash_of_its_source_and_a_stale_one_is_counted():
    run()
    assert TABLE.stale("laptop") == 0
    with replace("demo") as content:
        content["tables"]["cubes"]["laptop"]["runs"][0]["source"] = "0" * 16
    assert TABLE.stale("laptop") == 1 and len(TABLE.read()) == 8


def old_record():
    """The table as it was recorded before runs were kept one by one."""
    run()
    with replace("demo") as content:
        entry = content["tables"]["cubes"]["laptop"]
        entry["runs"], made = [], entry.pop("made")[0]
        entry |= {"made": [], "before": {"rows": 8, "data": ["by hand"], "config": {}, "seconds": 5.0, **made}}
    CALLS.clear()


def test_rows_from_before_runs_were_kept_are_read_and_say_so():
    old_record()
    frame = TABLE.read()
    assert len(frame) == 8 and frame.attrs["data"] == ["by hand"] and frame.attrs["seconds"] == 5.0
    assert TABLE.stale("laptop") is None and TABLE.waiting("laptop") == []


def test_a_cell_that_is_run_again_takes_the_place_of_its_old_rows():
    old_record()
    run(again=True, where={"x": 3, "base": 2})
    frame = TABLE.read()
    assert len(frame) == 8 and sorted(frame.value) == sorted([4, 8, 9, 27, 8, 16, 18, 54])
    assert frame.attrs["data"] == ["by hand"] and read("demo")["tables"]["cubes"]["laptop"]["before"]["rows"] == 6
    run(again=True)
    assert "before" not in read("demo")["tables"]["cubes"]["laptop"] and len(TABLE.read()) == 8


def test_rows_stand_in_the_order_of_the_declared_cells_whenever_each_was_run():
    """Breaks if a page's table depends on which process was finished first, or on what was run again."""
    run(where={"x": 3, "base": 2})
    run()
    before = TABLE.read()
    assert list(zip(before.base, before.x, strict=True))[::2] == [(1, 2), (1, 3), (2, 2), (2, 3)]
    run(where={"x": 2, "base": 1}, again=True)
    pd.testing.assert_frame_equal(TABLE.read(), before)


def test_a_row_that_lacks_a_column_is_an_error():
    with pytest.raises(KeyError, match="a row lacks colour"):
        changed(TABLE, columns=("x", "colour")).answer({"x": 2})


def test_other_columns_than_recorded_are_refused():
    run(where={"x": 2})
    with pytest.raises(ValueError, match="remove its laptop record"):
        run(changed(TABLE, columns=("x", "value")))


def test_probe_is_recorded_with_its_cell():
    TABLE.record_probe()
    probe = read("demo")["probes"]["cubes"]
    assert probe["cell"] == {"x": 7, "base": 1} and [row[-1] for row in probe["rows"]] == [49.0, 343.0]


def test_who_listens_hears_which_tables_are_read():
    run()
    with tables_read() as heard:
        TABLE.read()
    TABLE.read()
    assert heard == [TABLE]


def test_a_users_own_record_counts_before_the_books(results, tmp_path, monkeypatch):
    run()
    monkeypatch.setattr(store_module, "COMMITTED", results)
    monkeypatch.setenv("NNLIB_RESULTS", str(tmp_path / "own"))
    assert len(TABLE.read()) == 8  # the book's
    run(again=True, where={"x": 2, "base": 1})
    assert len(TABLE.read()) == 2  # the user's
    assert len(json.loads((results / "demo.json").read_text())["tables"]["cubes"]["laptop"]["rows"]) == 8
