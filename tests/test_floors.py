"""Who may import whom: methods know nothing of the laboratory, and no paper or chapter imports another one's room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED = {  # in each house a part may import what stands on a line above its own; on the last line, papers and chapters
    "nnlib": [
        ["arguments"],
        ["modes", "cholesky", "plain"],
        ["descent"],
        ["training"],
        ["curvature", "lipschitz", "bayes", "models"],
    ],
    "tenpapers": [["data"], ["runs"], ["page"], ["claims"]],
}


def papers(house: str) -> list[str]:
    """The rooms of a house that are not shared: one a paper, or a chapter."""
    rooms = {path.parent.name for path in (ROOT / house).glob("*/__init__.py")}
    return sorted(rooms - {part for parts in SHARED[house] for part in parts})


FLOORS = {house: [*floors, papers(house)] for house, floors in SHARED.items()}
FLOORS["tenpapers"] += [["new_chapter"], ["__main__"]]
FLOOR = {house: {part: i for i, parts in enumerate(floors) for part in parts} for house, floors in FLOORS.items()}
# What only the book needs: nnlib must work without.
BOOK = "pandas sklearn joblib plotly ipywidgets anywidget IPython matplotlib jsonschema optuna sacrebleu".split()
FILES = sorted(path for house in FLOORS for path in (ROOT / house).rglob("*.py"))


def imports(source: str, package: str) -> set[str]:
    """Full names of all that a file imports, at its top or inside a function; relative names are resolved."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            # ``from nnlib import nqm`` names a part, ``from tenpapers.data import load`` a function of one.
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def violations(path: str, source: str) -> list[str]:
    """What a file imports against the rules; ``path`` is relative to the repository."""
    parts = Path(path).with_suffix("").parts
    house, part, package = parts[0], parts[1], ".".join(parts[:-1])
    found = []
    for name in sorted(imports(source, package)):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top in ("book", "tools", "tests"):
            found.append(f"imports {name}")
        elif house == "nnlib" and (top in BOOK or top == "tenpapers"):
            found.append(f"a method needs the book: imports {name}")
        elif house == "nnlib" and top == "gpytorch" and part != "functional_bnn":
            found.append(f"imports {name}, which only functional_bnn stands on")
        elif top == house and target and target != part:
            if target not in FLOOR[house] or not FLOOR[house][target] < FLOOR[house][part]:
                found.append(f"reaches up or sideways: imports {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_imports_only_from_the_floors_below(path):
    relative = path.relative_to(ROOT)
    if len(relative.parts) == 2 and path.name == "__init__.py":
        assert not imports(path.read_text(), relative.parts[0]), "importing a house must import nothing else"
        return
    house, part = relative.with_suffix("").parts[:2]
    assert part in FLOOR[house], f"{relative} stands on no floor: add it to FLOORS"
    assert violations(relative.as_posix(), path.read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tenpapers/data/images.py", "from tenpapers.runs import sweep"),
        ("nnlib/training.py", "import nnlib.models"),
        ("nnlib/models/mlp.py", "from nnlib.curvature import KFAC"),
        ("nnlib/nqm/risk.py", "from nnlib import weight_decay"),
        ("nnlib/nqm/risk.py", "from tenpapers.runs.sweeps import sweep"),
        ("nnlib/nqm/risk.py", "def f():\n    from ..bcop import layers"),
        ("nnlib/nqm/risk.py", "import plotly.graph_objects as go"),
        ("nnlib/nqm/risk.py", "import gpytorch"),
        ("nnlib/training.py", "import pandas as pd"),
        ("tenpapers/runs/store.py", "from tenpapers.page.text import number"),
        ("tenpapers/nqm/figures/lab.py", "from tests.oracles import nqm"),
        ("tenpapers/nqm/figures/lab.py", "from tenpapers.bcop import figures"),
        ("tenpapers/page/text.py", "from tenpapers.somewhere import x"),
    ],
)
def test_the_check_finds_a_planted_violation(path, source):
    # Without this, an error in ``imports`` would let everything pass.
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tenpapers/nqm/neural.py", "from nnlib.training import fit\nfrom tenpapers.data import load\nimport pandas"),
        ("nnlib/nqm/risk.py", "from .methods import SGD\nfrom nnlib.nqm import problem"),
        ("nnlib/functional_bnn/kernels.py", "import gpytorch"),
        ("tenpapers/page/explorer.py", "from tenpapers.page.look import describe\nimport plotly"),
        ("tenpapers/nqm/figures/lab.py", "from nnlib import nqm"),
    ],
)
def test_the_check_lets_good_imports_pass(path, source):
    assert violations(path, source) == []


def test_importing_every_method_loads_nothing_that_only_the_book_needs():
    # What the source says is not all: a library that we import could pull one in. gpytorch may pull in scikit-learn.
    parts = [part for parts in FLOORS["nnlib"] for part in parts if part != "functional_bnn"]
    code = f"import sys, {', '.join(f'nnlib.{part}' for part in parts)}\n"
    code += f"print(sorted({{*{BOOK!r}, 'tenpapers', 'gpytorch'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
