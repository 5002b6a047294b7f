"""Claims about ``tenpapers.runs``: no run of a sweep is lost, no stale answer given, no record bent."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

import nnlib
from tenpapers.runs import RecordMismatch, claims, profile, record, recorded, sweep, sweeps, table
from tenpapers.runs.store import plain, write

SETTINGS = {"quick": {"n": 1}, "laptop": {"n": 2}, "paper": {"n": 3}}


# --- profile -----------------------------------------------------------------------------------------------------


def test_profile_gives_the_settings_of_its_name():
    assert [profile(name, **SETTINGS).n for name in SETTINGS] == [1, 2, 3]
    assert profile("laptop", **SETTINGS).name == "laptop"


def test_quick_computes_in_float64_and_a_profile_can_choose_otherwise():
    # float32 results differ between CPUs in the third digit, and quick's text is compared letter by letter.
    assert profile("quick", **SETTINGS).dtype == torch.float64
    assert profile("paper", **SETTINGS).dtype == torch.float32
    chosen = {name: {"dtype": torch.float16} for name in SETTINGS}
    assert profile("quick", **chosen).dtype == torch.float16


def test_unknown_profile_says_which_there_are():
    with pytest.raises(ValueError, match="profile must be one of quick, laptop, paper: got 'large'"):
        profile("large", **SETTINGS)


def test_setting_missing_in_one_profile_is_found_whichever_is_chosen():
    with pytest.raises(ValueError, match="profile 'paper' lacks n"):
        profile("quick", **(SETTINGS | {"paper": {}}))


# --- sweep -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NNLIB_RECORD", raising=False)


def area(width, height, log):
    """Notes each real call in a file, so that a test can count them across processes."""
    with open(log, "a") as file:
        file.write(f"{width} {height}\n")
    if width == 13:
        raise RuntimeError("unlucky")
    return {"area": width * height, "pid": os.getpid()}


def calls(log):
    return Path(log).read_text().splitlines() if Path(log).exists() else []


def test_grid_is_the_product_of_its_values_in_order(tmp_path):
    frame = sweep(area, {"width": [1, 2], "height": [3, 4], "log": [str(tmp_path / "log")]})
    assert frame[["width", "height", "area"]].values.tolist() == [[1, 3, 3], [1, 4, 4], [2, 3, 6], [2, 4, 8]]
    assert frame.error.isna().all() and (frame.seconds >= 0).all()


def test_list_of_cells_and_several_rows_a_cell():
    frame = sweep(powers, [{"x": 2, "n": 2}, {"x": 3, "n": 1}])
    assert frame[["x", "power", "value"]].values.tolist() == [[2, 1, 2], [2, 2, 4], [3, 1, 3]]


def powers(x, n):
    return [{"power": k, "value": x**k} for k in range(1, n + 1)]


def test_failed_cell_is_a_row_with_its_error_and_is_tried_again(tmp_path):
    log = str(tmp_path / "log")
    grid = {"width": [1, 13, 2], "height": [1], "log": [log]}
    frame = sweep(area, grid)
    assert frame.error.isna().tolist() == [True, False, True]
    assert frame.error[1] == "RuntimeError: unlucky" and np.isnan(frame.area[1])
    sweep(area, grid)
    assert calls(log) == ["1 1", "13 1", "2 1", "13 1"]


def test_second_sweep_is_answered_from_the_cache_with_the_same_frame(tmp_path):
    log = str(tmp_path / "log")
    grid = {"width": [1, 2], "height": [3], "log": [log]}
    first = sweep(area, grid)
    pd.testing.assert_frame_equal(first, sweep(area, grid))
    assert len(calls(log)) == 2


def test_interrupted_sweep_goes_on_where_it_stopped(tmp_path):
    """A process is killed by its third cell; the next sweep computes only what is missing."""
    script = tmp_path / "interrupted.py"
    script.write_text(
        "import os, sys\n"
        "from tenpapers.runs import sweep\n"
        "def cell(i, log):\n"
        "    open(log, 'a').write(f'{i}\\n')\n"
        "    if i == 2 and not os.path.exists(log + '.again'):\n"
        "        os._exit(9)\n"
        "    return {'square': i * i}\n"
        "if __name__ == '__main__':\n"
        "    print(sweep(cell, {'i': range(5), 'log': [sys.argv[1]]}).square.tolist())\n"
    )
    log = tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": str(Path(nnlib.__path__[0]).parent)}
    command = [sys.executable, str(script), str(log)]
    assert subprocess.run(command, env=environment).returncode == 9
    (tmp_path / "log.again").touch()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 1, 4, 9, 16]"
    assert calls(log) == ["0", "1", "2", "2", "3", "4"]


def test_changed_source_of_nnlib_is_never_answered_from_the_cache(tmp_path, monkeypatch):
    package = tmp_path / "nnlib"
    package.mkdir()
    (package / "a.py").write_text("x = 1")
    monkeypatch.setattr(sweeps.nnlib, "__path__", [str(package)])
    log = str(tmp_path / "log")
    grid = {"width": [1], "height": [1], "log": [log]}
    for text, expected in [("x = 1", 1), ("x = 1", 1), ("x = 2", 2), ("x = 1", 2)]:
        (package / "a.py").write_text(text)
        sweeps.source_hash.cache_clear()
        sweep(area, grid)
        assert len(calls(log)) == expected
    sweeps.source_hash.cache_clear()


def test_source_hash_sees_renamed_and_moved_code(tmp_path, monkeypatch):
    package = tmp_path / "nnlib"
    package.mkdir()
    monkeypatch.setattr(sweeps.nnlib, "__path__", [str(package)])
    hashes = set()
    for files in [{"a.py": "x"}, {"b.py": "x"}, {"a.py": "x", "b.py": ""}, {"a.py": "", "b.py": "x"}]:
        for old in package.iterdir():
            old.unlink()
        for name, text in files.items():
            (package / name).write_text(text)
        sweeps.source_hash.cache_clear()
        hashes.add(sweeps.source_hash())
    sweeps.source_hash.cache_clear()
    assert len(hashes) == 4


def test_answers_of_a_module_depend_on_what_it_imports_and_on_nothing_else(tmp_path, monkeypatch):
    # Breaks if an import is not followed (stale answers), or if every change anywhere empties the cache.
    package = tmp_path / "nnlib"
    (package / "sub").mkdir(parents=True)
    monkeypatch.setattr(sweeps.nnlib, "__path__", [str(package)])
    files = {"a.py": "from nnlib.sub import f", "sub/__init__.py": "from nnlib.sub.deep import f", "other.py": "1"}
    for name, text in (files | {"sub/deep.py": "import nnlib.leaf", "leaf.py": "x = 1"}).items():
        (package / name).write_text(text)

    def key():
        sweeps.source_hash.cache_clear()
        return sweeps.source_hash("nnlib.a")

    before = key()
    (package / "other.py").write_text("2")
    assert key() == before
    for name in ("leaf.py", "sub/deep.py", "sub/__init__.py", "a.py"):
        with (package / name).open("a") as file:
            file.write("\n# changed")
        assert key() != before
        before = key()
    sweeps.source_hash.cache_clear()


def test_hash_of_a_module_covers_all_that_it_stands_on_and_nothing_above():
    # A file left out would let changed code be answered from the cache; experiments or figures would empty it in vain.
    root = Path(nnlib.__path__[0])
    names = {path.relative_to(root).as_posix() for path in sweeps._behind("tenpapers.nqm.neural", root)}
    assert {"nqm/neural.py", "training.py", "data/__init__.py", "data/images.py", "models/cnn.py"} <= names
    assert not any(name.startswith(("experiments", "figures")) for name in names)
    # Relative imports are not followed: there must be none.
    nodes = [node for path in root.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)


SCALE = 2


def scaled(x):
    return {"y": helper(x)}


def helper(x):
    return SCALE * x


def test_values_and_helpers_of_a_notebook_function_are_part_of_the_key(monkeypatch):
    # A function in a notebook reads globals that its arguments do not show: changed, they must not be answered stale.
    assert sweep(scaled, {"x": [3]}).y[0] == 6
    monkeypatch.setitem(globals(), "SCALE", 5)
    assert sweep(scaled, {"x": [3]}).y[0] == 15


def test_closed_over_values_are_part_of_the_key():
    def times(factor):
        def cell(x):
            return {"y": factor * x}

        return cell

    assert [sweep(times(factor), {"x": [3]}).y[0] for factor in (2, 5)] == [6, 15]


def test_parallel_config_chooses_the_backend(tmp_path):
    grid = {"width": list(range(4)), "height": [1], "log": [str(tmp_path / "log")]}
    with joblib.parallel_config("loky", n_jobs=2):
        frame = sweep(area, grid)
    assert os.getpid() not in set(frame.pid)
    assert frame.area.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("grid", [{}, [], {"x": []}])
def test_empty_grid_is_refused(grid):
    # The product of no values at all is one empty cell: a call without arguments is not what anyone meant.
    with pytest.raises(ValueError, match="the grid is empty"):
        sweep(scaled, grid)


def test_answer_must_not_hide_a_column_of_the_grid():
    with pytest.raises(ValueError, match="columns of the grid's name: got x"):
        sweep(shadow, {"x": [1]})


def shadow(x):
    return {"x": 2 * x}


# --- record, table, claims ----------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("NNLIB_RESULTS", str(folder))
    return folder


CLAIM = {
    "statement": "Momentum needs fewer steps at large batch sizes.",
    "where": "section 3",
    "ours": 3.0,
    "verdict": "agrees",
    "test": "tests/nnlib/test_x.py::test_y",
    "profile": "quick",
    "data": "none: exact computation",
    "seconds": 1.25,
    "config": {"seed": 0, "dim": 10},
}


@pytest.fixture
def save(results, monkeypatch):
    """Record a claim, as make reproduce does."""

    def call(**changes):
        with monkeypatch.context() as patch:
            patch.setenv("NNLIB_RECORD", "1")
            record("demo", "momentum", **(CLAIM | changes))

    return call


def check(**changes):
    record("demo", "momentum", **(CLAIM | changes))


def test_a_record_holds_what_was_said_and_what_it_was_made_with(save):
    save(spread=[2.5, 3.5])
    entry = recorded("demo")["claims"]["momentum"]
    run = entry["runs"]["quick"]
    assert entry["statement"] == CLAIM["statement"] and entry["paper"] is None
    assert (run["ours"], run["spread"], run["seconds"]) == (3.0, [2.5, 3.5], 1.2)
    assert run["versions"]["torch"] == torch.__version__ and run["hardware"]["cores"] == os.cpu_count()
    assert run["hardware"]["cpu"]


def test_without_the_variable_nothing_is_written(save, results):
    with pytest.raises(FileNotFoundError, match="no record of chapter 'demo'"):
        check()
    assert not list(results.iterdir())
    save()
    before = (results / "demo.json").read_bytes()
    check()
    with pytest.raises(RecordMismatch):
        check(ours=4.0)
    assert (results / "demo.json").read_bytes() == before


def test_profiles_are_kept_side_by_side(save):
    save()
    save(profile="laptop", ours=3.1, config={"dim": 1000})
    assert {p: r["ours"] for p, r in recorded("demo")["claims"]["momentum"]["runs"].items()} == {
        "quick": 3.0,
        "laptop": 3.1,
    }


@pytest.mark.parametrize(
    ("stored", "now", "passes"),
    [
        ({}, {}, True),
        ({}, {"ours": 3.000001}, True),
        ({}, {"ours": 3.00001}, False),
        ({"tolerance": 0.1}, {"ours": 3.2, "tolerance": 0.1}, True),
        ({"tolerance": 0}, {"ours": 3.0000001, "tolerance": 0}, False),
        ({"spread": [2.5, 3.5]}, {"ours": 2.5}, True),
        ({"spread": [2.5, 3.5]}, {"ours": 3.51}, False),
        ({"ours": True}, {"ours": True}, True),
        ({"ours": True}, {"ours": False}, False),
        ({"ours": 1}, {"ours": float("nan")}, False),
        ({"ours": {"a": 1, "b": 2}}, {"ours": {"a": 1, "b": 2}}, True),
        ({"ours": {"a": 1, "b": 2}}, {"ours": {"a": 1, "b": 3}}, False),
        ({"ours": {"a": 1, "b": 2}}, {"ours": {"a": 1}}, False),
        ({"ours": {"a": 1, "b": 2}, "spread": {"b": [1, 3]}}, {"ours": {"a": 1, "b": 3}}, True),
        ({"ours": {"a": 1, "b": 2}, "spread": {"b": [1, 3]}}, {"ours": {"a": 2, "b": 2}}, False),
    ],
)
def test_numbers_are_checked_against_spread_or_tolerance(save, stored, now, passes):
    save(**stored)
    if passes:
        check(**({k: v for k, v in stored.items() if k != "spread"} | now))
    else:
        with pytest.raises(RecordMismatch, match="claim 'momentum'"):
            check(**now)


def test_mismatch_names_claim_ours_and_recorded_and_what_to_do(save):
    save()
    with pytest.raises(
        RecordMismatch, match=r"demo: claim 'momentum': ours is 4\.0, the record allows within .* 3\.0"
    ) as e:
        check(ours=4.0)
    assert "make reproduce CHAPTER=demo" in str(e.value)


@pytest.mark.parametrize(
    "change",
    [
        {"statement": "Momentum never helps."},
        {"where": "section 4"},
        {"paper": 2.0},
        {"verdict": "disagrees"},
        {"test": "tests/nnlib/test_x.py::test_z"},
        {"data": "MNIST"},
        {"config": {"seed": 0, "dim": 11}},
        {"tolerance": 0.5},
    ],
)
def test_a_record_made_of_other_words_or_settings_is_stale(save, change):
    # In particular a tolerance cannot be widened in the notebook to make a number pass.
    save()
    with pytest.raises(RecordMismatch, match=next(iter(change))):
        check(**change)


def test_another_seed_is_compared_with_the_spread_and_with_nothing_else(save):
    other = {"config": {"seed": 1, "dim": 10}}
    save()
    check(ours=4.0, **other)
    save(spread=[2.5, 3.5])
    check(ours=3.4, **other)
    with pytest.raises(RecordMismatch):
        check(ours=4.0, **other)


def test_claim_or_profile_without_record_is_an_error(save):
    save()
    with pytest.raises(RecordMismatch, match=r"no record for profile 'laptop'.*PROFILE=laptop"):
        check(profile="laptop")
    with pytest.raises(RecordMismatch, match="claim 'other' has no record"):
        record("demo", "other", **CLAIM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "nearly"}, "verdict must be one of agrees, agrees in trend, disagrees, not attempted"),
        ({"profile": "huge"}, "profile must be one of"),
        ({"ours": None}, "'not attempted'"),
        ({"verdict": "not attempted"}, "'not attempted'"),
        ({"spread": [3.1, 4.0]}, r"must be \[low, high\] around ours"),
        ({"spread": 0.1}, r"must be \[low, high\]"),
        ({"spread": {"a": [1, 5]}}, r"must be \[low, high\]"),
        ({"ours": object()}, "a record holds numbers"),
    ],
)
def test_what_a_record_cannot_hold_is_refused_and_not_written(save, results, change, message):
    with pytest.raises(ValueError, match=message):
        save(**change)
    assert not list(results.iterdir())


def test_not_attempted_is_recorded_without_a_number(save):
    save(ours=None, verdict="not attempted")
    check(ours=None, verdict="not attempted")
    assert claims("demo").ours.tolist() == [""]


def test_interrupted_write_leaves_the_old_record_whole(save, results, monkeypatch):
    save()
    before = (results / "demo.json").read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            save(ours=5.0)
    assert (results / "demo.json").read_bytes() == before


def test_results_are_found_from_a_folder_below(tmp_path, monkeypatch):
    monkeypatch.delenv("NNLIB_RESULTS", raising=False)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "demo.json").write_text('{"chapter": "demo", "claims": {}, "tables": {}}')
    (tmp_path / "book" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "book" / "deep")
    assert recorded("demo")["chapter"] == "demo"
    monkeypatch.chdir("/")
    with pytest.raises(FileNotFoundError, match="set NNLIB_RESULTS"):
        recorded("demo")


FRAME = pd.DataFrame({"batch": [8, 16], "steps": [100.5, float("nan")], "method": ["SGD", "Adam [x,\n y]"]})
TABLE = {"data": "digits", "config": {"seeds": 3}}


def test_quick_reads_the_laptops_table_and_computes_nothing(results, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("NNLIB_RECORD", "1")
        table("demo", "steps", lambda: FRAME, "laptop", **TABLE)
    read = table("demo", "steps", lambda: pytest.fail("computed"), "quick", **TABLE)
    pd.testing.assert_frame_equal(read, FRAME, check_dtype=False)
    assert read.attrs["data"] == "digits" and read.attrs["hardware"]["cpu"]


def test_computed_table_is_written_only_under_the_variable(results):
    pd.testing.assert_frame_equal(table("demo", "steps", lambda: FRAME, "laptop", **TABLE), FRAME, check_dtype=False)
    assert not list(results.iterdir())


def test_quick_without_a_recorded_table_says_how_to_make_it(save):
    save()
    with pytest.raises(RecordMismatch, match=r"'steps' has no laptop run.*make reproduce CHAPTER=demo PROFILE=laptop"):
        table("demo", "steps", lambda: FRAME, "quick", **TABLE)


def test_written_file_reads_back_as_what_was_put_in(results):
    # Rows are folded to one line by a regular expression: strings with brackets, quotes and breaks must survive.
    nasty = ["a, [b", "]\n", '"[\\n 1,\\n 2]"', "{", "é", []]
    content = {"chapter": "demo", "claims": {}, "tables": {"t": {"rows": [[1, 2.5, None], nasty], "empty": []}}}
    write("demo", content)
    text = (results / "demo.json").read_text(encoding="utf-8")
    assert json.loads(text) == content
    assert "[1, 2.5, null]" in text


def test_values_become_plain_json():
    value = {1: np.float32(0.5), "t": torch.tensor([1, 2]), "inf": float("inf"), "b": np.bool_(True), "r": range(2)}
    assert plain(value) == {"1": 0.5, "t": [1, 2], "inf": None, "b": True, "r": [0, 1]}
    assert type(plain(np.bool_(True))) is bool


def test_claims_show_the_largest_profile_to_three_digits(save):
    save()
    save(profile="laptop", ours={"SGD": 1234.5678, "Adam": 0.00012345, "held": True, "n": 12})
    row = claims("demo").iloc[0]
    assert row.profile == "laptop" and row.paper == ""
    assert row.ours == "SGD: 1.23e+03; Adam: 1.23e-04; held: yes; n: 12"
