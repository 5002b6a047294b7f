"""The committed notebooks: their structure, their outputs run again, and another seed."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import notebooks  # noqa: E402

BOOK = notebooks.notebooks()
CHAPTERS = [path for path in BOOK if path.name != notebooks.COVER]
CAPABILITY = os.environ.get("ATEN_CPU_CAPABILITY", "avx2")


def name(path: Path) -> str:
    return path.stem


@pytest.fixture
def clean_environment(monkeypatch, tmp_path):
    """As on a reader's machine: no data and no records of our own, one thread, an empty cache."""
    for variable in ("NNLIB_DATA", "NNLIB_RESULTS"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in (notebooks.FIXED | {"ATEN_CPU_CAPABILITY": CAPABILITY}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("NNLIB_CACHE", str(tmp_path / "cache"))


def test_every_notebook_of_the_book_is_found_and_in_the_table_of_contents():
    """Breaks if the tests below would pass on no notebook at all, or a chapter is written and not linked."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [contents["root"]] + [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert len(CHAPTERS) >= 1 and notebooks.COVER in {path.name for path in BOOK}
    for path in BOOK:
        assert path.relative_to(ROOT).with_suffix("").as_posix() in listed


@pytest.mark.parametrize("path", BOOK, ids=name)
def test_structure_is_what_the_book_promises(path):
    """All cells executed in order, one parameters cell, no error, no stderr, alt text for every figure, ..."""
    assert notebooks.problems(path) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_chapter_has_every_section_of_the_template(path):
    """Breaks if a chapter leaves out what a reader or teacher looks for."""
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    headings = [line.lstrip("# ") for line in text.splitlines() if line.startswith("## ")]
    wanted = {"Setting", "From scratch", "Paper and ours", "What breaks", "Exercises", "Quiz", "Take-away"}
    assert wanted <= set(headings)
    assert "{div} card-table" in text and "Notes for teachers" in text and "{math}" in text
    assert f"\nCode\n: method {{py:mod}}`nnlib.{path.stem}`" in text  # one step from the page to its code
    assert code.count("explore(") >= 2 and "quiz(" in code and "assert_close(" in code
    assert text.count("{exercise}") >= 3
    assert text.count("{solution-start}") == text.count("{solution-end}") == text.count("{exercise}")


@pytest.mark.parametrize("path", BOOK, ids=name)
def test_running_a_notebook_again_gives_the_committed_output(path, clean_environment):
    """Strict nbval; figures are compared in the browser tests instead (their cells are tagged)."""
    command = [sys.executable, "-m", "pytest", "--nbval", str(path), "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    options = ["--nbval-cell-timeout", "300", "--nbval-sanitize-with", str(Path(__file__).with_name("sanitise.cfg"))]
    done = subprocess.run([*command, *options], cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_another_seed_runs_through(path, clean_environment, tmp_path):
    """Breaks if a chapter's parameters have no effect, or its asserts hold for one seed only."""
    copy = tmp_path / path.name
    papermill.execute_notebook(path, copy, {"seed": 1}, cwd=path.parent, kernel_name="python3", progress_bar=False)
    injected = [cell for cell in nbformat.read(copy, 4).cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert len(injected) == 1 and "seed = 1" in injected[0].source
