"""Who may import whom: methods never reach up to experiments or pictures, and a paper never imports another paper."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nnlib"
PAPERS = (
    "nqm natural_gradient weight_decay noisy_ekfac functional_bnn groupsort bcop eigendamage reversible_rnn self_tuning"
).split()
FLOORS = [  # each may import what stands on a line above its own; the last line's parts may import each other
    ["data"],
    ["training"],
    ["curvature", "lipschitz", "bayes", "models"],
    PAPERS,
    ["experiments"],
    ["explorer", "figures", "text", "quiz"],
]
FLOOR = {part: level for level, parts in enumerate(FLOORS) for part in parts}
PICTURES = ("plotly", "ipywidgets", "anywidget", "IPython", "matplotlib")
FILES = sorted(PACKAGE.rglob("*.py"))


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
            # ``from nnlib import nqm`` names a part, ``from nnlib.data import load`` a function of one.
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def violations(path: str, source: str) -> list[str]:
    """What a file of nnlib imports against the rules; ``path`` is relative to the repository."""
    parts = Path(path).with_suffix("").parts
    part, package = parts[1], ".".join(parts[:-1])
    found = []
    for name in sorted(imports(source, package)):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top in ("book", "tools", "tests"):
            found.append(f"imports {name}")
        elif top in PICTURES and FLOOR[part] < FLOOR["explorer"]:
            found.append(f"draws: imports {name}")
        elif top == "nnlib" and target and target != part:
            last = FLOOR[part] == FLOOR.get(target) == len(FLOORS) - 1
            if target not in FLOOR or not (FLOOR[target] < FLOOR[part] or last):
                found.append(f"reaches up or sideways: imports {name}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_file_imports_only_from_the_floors_below(path):
    relative = path.relative_to(ROOT)
    if len(relative.parts) == 2 and path.name == "__init__.py":
        assert not imports(path.read_text(), "nnlib"), "importing nnlib must import nothing else"
        return
    assert relative.with_suffix("").parts[1] in FLOOR, f"{relative} stands on no floor: add it to FLOORS"
    assert violations(relative.as_posix(), path.read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("nnlib/data/images.py", "from nnlib.models import MLP"),
        ("nnlib/training.py", "import nnlib.models"),
        ("nnlib/models/mlp.py", "from nnlib.curvature import KFAC"),
        ("nnlib/nqm/risk.py", "from nnlib import weight_decay"),
        ("nnlib/nqm/risk.py", "from nnlib.experiments.sweeps import sweep"),
        ("nnlib/nqm/risk.py", "def f():\n    from ..bcop import layers"),
        ("nnlib/nqm/risk.py", "import plotly.graph_objects as go"),
        ("nnlib/training.py", "from ipywidgets import IntSlider"),
        ("nnlib/experiments/store.py", "from nnlib.text import number"),
        ("nnlib/figures/nqm/lab.py", "from tests.oracles import nqm"),
        ("nnlib/text.py", "from nnlib.somewhere import x"),
    ],
)
def test_the_check_finds_a_planted_violation(path, source):
    # Without this, an error in ``imports`` would let everything pass.
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("nnlib/nqm/neural.py", "from nnlib.training import fit\nfrom nnlib.data import load\nimport torch"),
        ("nnlib/nqm/risk.py", "from .methods import SGD\nfrom nnlib.nqm import problem"),
        ("nnlib/explorer.py", "from nnlib.figures import describe\nimport plotly"),
        ("nnlib/figures/nqm/lab.py", "from nnlib import nqm"),
    ],
)
def test_the_check_lets_good_imports_pass(path, source):
    assert violations(path, source) == []


def test_importing_a_method_loads_no_plotting_library():
    # What the source says is not all: a library that we import could pull one in.
    parts = [part for level in FLOORS[:-1] for part in level if (PACKAGE / part).exists() or part == "training"]
    assert {"data", "models", "training", "nqm", "experiments"} <= set(parts)
    code = f"import sys, {', '.join(f'nnlib.{part}' for part in parts)}, nnlib.nqm.neural\n"
    code += f"print(sorted(set({PICTURES!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
