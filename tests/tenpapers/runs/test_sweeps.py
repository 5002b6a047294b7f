"""No run of a sweep is lost, and no stale answer given."""

import ast
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
import tenpapers
from tenpapers.runs import cache, profile, sweep

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


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the place of nnlib, and a function that forgets the hashes of its source."""
    folder = tmp_path / "nnlib"
    folder.mkdir()
    real = cache._root.__wrapped__
    monkeypatch.setattr(cache, "_root", lambda house: folder if house == "nnlib" else real(house))
    cache.source_hash.cache_clear()
    yield folder
    cache.source_hash.cache_clear()


def test_changed_source_of_the_packages_is_never_answered_from_the_cache(tmp_path, package):
    log = str(tmp_path / "log")
    grid = {"width": [1], "height": [1], "log": [log]}
    for text, expected in [("x = 1", 1), ("x = 1", 1), ("x = 2", 2), ("x = 1", 2)]:
        (package / "a.py").write_text(text)
        cache.source_hash.cache_clear()
        sweep(area, grid)
        assert len(calls(log)) == expected


def test_source_hash_sees_renamed_and_moved_code(package):
    hashes = set()
    for files in [{"a.py": "x"}, {"b.py": "x"}, {"a.py": "x", "b.py": ""}, {"a.py": "", "b.py": "x"}]:
        for old in package.iterdir():
            old.unlink()
        for name, text in files.items():
            (package / name).write_text(text)
        cache.source_hash.cache_clear()
        hashes.add(cache.source_hash("nnlib"))
    assert len(hashes) == 4


def test_answers_of_a_module_depend_on_what_it_imports_and_on_nothing_else(package):
    # Breaks if an import is not followed (stale answers), or if every change anywhere empties the cache.
    (package / "sub").mkdir()
    files = {"a.py": "from nnlib.sub import f", "sub/__init__.py": "from nnlib.sub.deep import f", "other.py": "1"}
    for name, text in (files | {"sub/deep.py": "import nnlib.leaf", "leaf.py": "x = 1"}).items():
        (package / name).write_text(text)

    def key():
        cache.source_hash.cache_clear()
        return cache.source_hash("nnlib.a")

    before = key()
    (package / "other.py").write_text("2")
    assert key() == before
    for name in ("leaf.py", "sub/deep.py", "sub/__init__.py", "a.py"):
        with (package / name).open("a") as file:
            file.write("\n# changed")
        assert key() != before
        before = key()


def test_hash_of_a_module_covers_all_that_it_stands_on_in_both_houses_and_nothing_above():
    # A file left out would let changed code be answered from the cache; claims or figures would empty it in vain.
    roots = [Path(house.__path__[0]) for house in (nnlib, tenpapers)]
    names = {path.relative_to(roots[0].parent).as_posix() for path in cache._behind("tenpapers.eigendamage.measure")}
    assert {"tenpapers/eigendamage/workloads.py", "tenpapers/data/__init__.py", "tenpapers/data/images.py"} <= names
    assert {"nnlib/training.py", "nnlib/descent.py", "nnlib/eigendamage/prune.py", "nnlib/models/vgg.py"} <= names
    assert not any(name.startswith(("tenpapers/claims", "tenpapers/page", "tenpapers/nqm")) for name in names)
    # Relative imports are not followed: there must be none.
    nodes = [node for root in roots for path in root.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
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
