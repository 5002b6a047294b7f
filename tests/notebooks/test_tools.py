"""Claims about ``tools/notebooks.py``: a normalised notebook is the same after every run, and a bad one is named."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks as tool


def good():
    """A notebook that breaks no rule."""
    cells = [
        new_markdown_cell("# A chapter"),
        new_code_cell(
            'profile = "quick"\nseed = 0\ndevice = "auto"', execution_count=1, metadata={"tags": ["parameters"]}
        ),
        new_code_cell(
            "1 + 1", execution_count=2, outputs=[new_output("execute_result", {"text/plain": "2"}, execution_count=2)]
        ),
    ]
    return tool.normalise(new_notebook(cells=cells))


def html(text):
    return [new_output("display_data", {"text/html": text, "text/plain": "Figure"})]


def image(**metadata):
    outputs = [new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "Figure"})]
    return new_code_cell("plot()", execution_count=3, outputs=outputs, metadata=metadata)


def code(source="x", outputs=(), count=3, **metadata):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def told(tmp_path, notebook, name="chapter.ipynb", normalise=True):
    path = tmp_path / name
    nbformat.write(tool.normalise(notebook) if normalise else notebook, path)
    return tool.problems(path)


def test_a_good_notebook_has_no_problems(tmp_path):
    assert told(tmp_path, good()) == []


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (code(count=None), "not all executed"),
        (code(count=7), "not all executed"),
        (code("", count=None), "empty code cells"),
        (code(outputs=[new_output("error", ename="KeyError", evalue="x", traceback=[])]), "fails with KeyError"),
        (code(outputs=[new_output("stream", name="stderr", text="UserWarning: old")]), "writes to stderr"),
        (code(tags=["raises-exception"]), "allowed to fail"),
        (code(outputs=html('<figure><div class="plot"></div></figure>')), "figure without alt text"),
        (code(outputs=html('<figure><div role="img" aria-label=" "></div></figure>')), "figure without alt text"),
        (code(outputs=html('<figure><p aria-label="Data: x">1</p></figure>')), "figure without alt text"),
        (code(outputs=html('<img src="a.png">')), "figure without alt text"),
        (code(outputs=html('<img alt="a curve"><img src="b.png">')), "figure without alt text"),
        (image(), "an image without alt text"),
        (new_markdown_cell("![](curve.png)"), "an image without alt text"),
        (code("seed = 2", tags=["parameters"]), "has 2 cells tagged 'parameters'"),
        (code('open("/home/me/data.csv")'), "names a path of a machine"),
        (code(outputs=[new_output("stream", name="stdout", text=r"C:\Users\me")]), "names a path of a machine"),
        (code("x = 1  # " + "long " * 400_000), "bytes, more than 1,500,000"),
    ],
)
def test_each_broken_rule_is_named(tmp_path, cell, problem):
    notebook = good()
    notebook.cells.append(cell)
    assert any(problem in line for line in told(tmp_path, notebook))


@pytest.mark.parametrize(
    "cell",
    [
        code(outputs=html('<figure data-function="f"><div role="img" aria-label="A falling curve."></div></figure>')),
        code(outputs=html('<svg aria-hidden="true"></svg><img alt="A falling curve.">')),
        image(mystnb={"image": {"alt": "A falling curve."}}),
        image(mystnb={"figure": {"alt": "A falling curve.", "name": "curve"}}),
        new_markdown_cell("![A falling curve.](curve.png) and https://example.org/home/page, 1/root/2"),
        code(outputs=html("<table><tr><td>no picture</td></tr></table>")),
    ],
)
def test_described_figures_and_plain_pages_pass(tmp_path, cell):
    notebook = good()
    notebook.cells.append(cell)
    assert told(tmp_path, notebook) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("seed = 0", "profile and seed are needed"),
        ('profile = "quick"', "profile and seed are needed"),
        ('profile = "quick"\nseed = 0\na = 1\nb = 2\nc = 3\nd = 4', "has 6 parameters, more than 5"),
        ('profile: str = "quick"\nseed: int = 0\nif seed == 1:\n    pass', None),
    ],
)
def test_parameters_are_few_and_hold_profile_and_seed(tmp_path, source, problem):
    notebook = good()
    notebook.cells[1].source = source
    found = told(tmp_path, notebook)
    assert problem in found[0] if problem else found == []


def test_a_chapter_needs_parameters_and_the_cover_does_not(tmp_path):
    notebook = good()
    notebook.cells[1].metadata.tags = []
    assert "has 0 cells tagged 'parameters'" in told(tmp_path, notebook)[0]
    assert told(tmp_path, notebook, name=tool.COVER) == []


def test_notebook_without_code_is_a_problem(tmp_path):
    assert "has no code" in told(tmp_path, new_notebook(cells=[new_markdown_cell("# Empty")]), name=tool.COVER)


def noisy():
    """The good notebook as two kernels may leave it: all that may differ, differs."""
    notebook = good()
    notebook.metadata |= {
        "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}},
        "papermill": {"duration": 1.5},
        "kernelspec": {"name": "venv", "display_name": "venv", "language": "python"},
        "language_info": {"name": "python", "version": "3.12.1"},
    }
    cell = notebook.cells[2]
    cell.id = "a1b2c3d4"
    cell.metadata = {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}, "collapsed": False, "tags": []}
    data = {
        "text/plain": "2",
        "application/vnd.jupyter.widget-view+json": {"model_id": "8f3a", "version_major": 2, "version_minor": 0},
        "application/vnd.plotly.v1+json": {"data": []},
    }
    cell.outputs = [new_output("execute_result", data, execution_count=2, metadata={"needs_background": "light"})]
    return notebook


def test_normalising_removes_all_that_differs_between_runs(tmp_path):
    # The control: before, the noise is seen.
    found = told(tmp_path, noisy(), normalise=False)
    assert "stores widget state" in found and any("is not normalised" in problem for problem in found)
    assert tool.normalise(noisy()) == good()


def test_normalising_twice_changes_nothing():
    once = tool.normalise(noisy())
    assert tool.normalise(nbformat.reads(nbformat.writes(once), as_version=4)) == once


def test_normalising_keeps_what_the_author_wrote():
    notebook = good()
    notebook.cells[2].metadata = {"mystnb": {"figure": {"alt": "a curve"}}, "tags": ["hide-input"]}
    kept = tool.normalise(notebook).cells[2]
    assert kept.metadata == {"mystnb": {"figure": {"alt": "a curve"}}, "tags": ["hide-input"]}
    assert kept.source == "1 + 1" and kept.outputs[0].data["text/plain"] == "2"


def test_pieces_of_a_stream_are_joined_and_places_of_this_machine_hidden():
    pieces = [new_output("stream", name="stdout", text=t) for t in ("a\n", f"{tool.ROOT}/results\n")]
    pieces.append(new_output("stream", name="stderr", text="b\n"))
    cell = tool.normalise(new_notebook(cells=[new_code_cell("x", outputs=pieces)])).cells[0]
    assert [(o.name, o.text) for o in cell.outputs] == [("stdout", "a\n<book>/results\n"), ("stderr", "b\n")]


def test_environment_of_a_page_is_fixed_but_for_a_chosen_instruction_set(monkeypatch):
    for name, value in {"NNLIB_DATA": "d", "NNLIB_RESULTS": "1", "NNLIB_CACHE": "mine"}.items():
        monkeypatch.setenv(name, value)
    for name in tool.FIXED:
        monkeypatch.delenv(name, raising=False)
    given = tool.environment("fresh")
    assert tool.FIXED.items() <= given.items() and given["NNLIB_CACHE"] == "fresh"
    assert not {"NNLIB_DATA", "NNLIB_RESULTS"} & set(given)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert tool.environment("fresh")["ATEN_CPU_CAPABILITY"] == "default"


def test_executing_runs_in_the_notebooks_folder_and_twice_gives_the_same_bytes(tmp_path):
    """A real kernel: outputs that differ in timing and ids come out the same; the user's cache is not touched."""
    cells = [
        new_code_cell('profile = "quick"\nseed = 0', metadata={"tags": ["parameters"]}),
        new_code_cell(
            "import os, pathlib, sys\nprint(pathlib.Path('here').exists(), os.environ['OMP_NUM_THREADS'])\n"
            "sys.stdout.flush()\nprint(os.environ['NNLIB_CACHE'] != 'mine', 'NNLIB_RESULTS' in os.environ)"
        ),
    ]
    (tmp_path / "here").touch()
    path = tmp_path / "chapter.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    command = [sys.executable, str(tool.ROOT / "tools" / "notebooks.py"), "execute", str(path)]
    environment = os.environ | {"NNLIB_CACHE": "mine", "NNLIB_RESULTS": "1"}
    states = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        states.append(path.read_bytes())
    assert states[0] == states[1]
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "True 1\nTrue False\n"


def test_failing_notebook_is_left_as_it_was(tmp_path):
    path = tmp_path / "chapter.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    command = [sys.executable, str(tool.ROOT / "tools" / "notebooks.py"), "execute", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(("printed", "code"), [("2", 0), ("3", 1)])
def test_nbval_with_our_options_finds_a_changed_number(tmp_path, printed, code):
    # An option or a sanitising rule could make it compare nothing, and every notebook would pass.
    output = new_output("execute_result", {"text/plain": printed}, execution_count=1)
    path = tmp_path / "control.ipynb"
    tool.write(new_notebook(cells=[new_code_cell("1 + 1", execution_count=1, outputs=[output])]), path)
    command = [sys.executable, "-m", "pytest", "--nbval", str(path), "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    command += ["--nbval-sanitize-with", str(Path(__file__).with_name("sanitise.cfg"))]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("absent", "quick"), "no chapter 'absent'"), (("nqm", "huge"), "profile must be quick, laptop or paper")],
)
def test_run_refuses_what_it_does_not_know(arguments, message, monkeypatch, tmp_path):
    (tmp_path / "nqm.ipynb").touch()
    monkeypatch.setattr(tool, "BOOK", tmp_path)
    with pytest.raises(SystemExit, match=message):
        tool.run(*arguments)


def test_run_gives_the_notebook_its_profile_and_leaves_it_alone(tmp_path):
    """Papermill's parameters win over the notebook's, and the book's file keeps its bytes."""
    book = tmp_path / "book"
    book.mkdir()
    cells = [
        new_code_cell('profile = "quick"\nseed = 0', metadata={"tags": ["parameters"]}),
        new_code_cell("print('ran with', profile)"),
    ]
    tool.write(new_notebook(cells=cells), book / "demo.ipynb")
    before = (book / "demo.ipynb").read_bytes()
    script = (
        "import pathlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from tools import notebooks as tool\n"
        "tool.BOOK = pathlib.Path(sys.argv[2])\n"
        "print(tool.run('demo', 'laptop'))"
    )
    environment = os.environ | {"PYTHONPATH": str(tool.ROOT)}
    command = [sys.executable, "-c", script, str(tool.ROOT), str(book)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (book / "demo.ipynb").read_bytes() == before
    copy = Path(done.stdout.strip())
    assert not copy.is_relative_to(book) and "ran with laptop" in copy.read_text()
