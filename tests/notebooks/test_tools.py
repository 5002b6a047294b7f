"""What the rules for notebooks catch: each rule is broken once on purpose."""

import sys
from pathlib import Path

import nbformat
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import notebooks  # noqa: E402


def good() -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell('profile = "quick"\nseed = 0', execution_count=1)
    parameters.metadata["tags"] = ["parameters"]
    output = nbformat.v4.new_output("stream", name="stdout", text="2\n")
    notebook.cells = [parameters, nbformat.v4.new_code_cell("print(2)", execution_count=2, outputs=[output])]
    return notebooks.normalise(notebook)


def test_good_notebook_has_no_problem(tmp_path):
    """The control: the rules do not refuse everything."""
    notebooks.write(good(), tmp_path / "n.ipynb")
    assert notebooks.problems(tmp_path / "n.ipynb") == []


def html(text):
    return nbformat.v4.new_output("display_data", data={"text/html": text})


BREAK = {
    "cells were not all executed": lambda n: n.cells[1].update(execution_count=None),
    "0 cells tagged": lambda n: n.cells[0].metadata.pop("tags"),
    "more than 5": lambda n: n.cells[0].update(source=n.cells[0].source + "".join(f"\np{i} = {i}" for i in range(4))),
    "fails with": lambda n: n.cells[1].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="")),
    "writes to stderr": lambda n: n.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="w")),
    "a figure without alt text": lambda n: n.cells[1].outputs.append(html("<figure></figure>")),
    "an image without alt text": lambda n: n.cells.append(nbformat.v4.new_markdown_cell("![](a.png)")),
    "more than 1,500,000": lambda n: n.cells.append(nbformat.v4.new_markdown_cell("x" * 1_500_001)),
    "a path of a machine": lambda n: n.cells[1].outputs.append(html("/home/somebody/book")),
    "is allowed to fail": lambda n: n.cells[1].metadata.update(tags=["raises-exception"]),
    "is not normalised": lambda n: n.cells[1].metadata.update(execution={"iopub.execute_input": "2020"}),
    "stores widget state": lambda n: n.metadata.update(widgets={"state": {}}),
}


@pytest.mark.parametrize("problem", BREAK)
def test_each_rule_catches_what_breaks_it(problem, tmp_path):
    """Breaks if a rule is dropped or can't fail."""
    notebook = good()
    BREAK[problem](notebook)
    path = tmp_path / "n.ipynb"
    nbformat.write(notebook, path)
    assert any(problem in found for found in notebooks.problems(path)), notebooks.problems(path)
