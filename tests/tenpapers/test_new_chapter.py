"""A chapter from the template works at once: its tests, its claims, its notebook."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenpapers.new_chapter import FILES, TEMPLATE, new_chapter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A copy of what a new chapter touches, in a folder with a space in its name."""
    folder = tmp_path / "my copy"
    for name in ("nnlib", "tenpapers", "tests", "tools", "book"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "_toc.yml"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def run(checkout, *command):
    kept = {name: value for name, value in os.environ.items() if name != "NNLIB_RESULTS"}
    environment = kept | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *command], cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_a_new_chapter_passes_all_that_is_asked_of_a_chapter(checkout):
    """Breaks if the template falls behind what chapters must have."""
    assert "python -m tenpapers claims steins_paradox --record" in run(
        checkout, "-m", "tenpapers", "new-chapter", "steins_paradox", "--title", "Stein's paradox"
    )
    run(checkout, "-m", "tenpapers", "reproduce", "steins_paradox", "--jobs", "1")
    run(checkout, "-m", "tenpapers", "probes", "steins_paradox")
    assert "disagrees" not in run(checkout, "-m", "tenpapers", "claims", "steins_paradox", "--record")
    run(checkout, "tools/notebooks.py", "execute", "book/steins_paradox.ipynb")
    contents = checkout / "_toc.yml"
    contents.write_text(
        contents.read_text().replace("file: book/nqm\n", "file: book/nqm\n      - file: book/steins_paradox\n")
    )
    folders = ["nnlib/steins_paradox", "tenpapers/steins_paradox", "tests/nnlib/steins_paradox"]
    run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", *folders, "tests/tenpapers/steins_paradox")
    general = [
        "tests/test_floors.py",
        "tests/tenpapers/claims",
        "tests/tenpapers/runs",
        "tests/notebooks/test_notebooks.py",
    ]
    chosen = "(steins_paradox or table_of_contents or every_record_its_chapter) and not another_seed"
    run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", *general, "-k", chosen)


def test_every_file_of_the_template_is_written(tmp_path):
    assert {path.name for path in TEMPLATE.iterdir()} == set(FILES)
    written = new_chapter("a_b", "A & B", tmp_path)
    assert all("CHAPTER" not in path.read_text() and "HYPHENS" not in path.read_text() for path in written)


@pytest.mark.parametrize("name", ["Two Words", "two-words", "2d", "", "_x"])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(name, tmp_path):
    with pytest.raises(ValueError, match="lower-case words joined by underscores"):
        new_chapter(name, "", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused_and_nothing_is_changed(tmp_path):
    new_chapter("taken", "", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="already"):
        new_chapter("taken", "", tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
