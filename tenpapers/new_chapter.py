"""What does a new chapter start from? A small one that works: method, runs, claims, figures, notebook, tests, quiz."""

import re
from pathlib import Path

import nbformat

TEMPLATE = Path(__file__).with_name("template")
FILES = {  # file of the template: where it goes
    "method_init.py.txt": "nnlib/CHAPTER/__init__.py",
    "method.py.txt": "nnlib/CHAPTER/estimate.py",
    "room_init.py.txt": "tenpapers/CHAPTER/__init__.py",
    "measure.py.txt": "tenpapers/CHAPTER/measure.py",
    "runs.py.txt": "tenpapers/CHAPTER/runs.py",
    "claims.py.txt": "tenpapers/CHAPTER/claims.py",
    "figures_init.py.txt": "tenpapers/CHAPTER/figures/__init__.py",
    "figure.py.txt": "tenpapers/CHAPTER/figures/risk.py",
    "quiz.json.txt": "tenpapers/quizzes/CHAPTER.json",
    "test_method.py.txt": "tests/nnlib/CHAPTER/test_estimate.py",
    "test_room.py.txt": "tests/tenpapers/CHAPTER/test_measure.py",
    "mutations.json.txt": "tools/mutations/CHAPTER.json",
    "chapter.txt": "book/CHAPTER.ipynb",
}
NEXT = """Written: {count} files. Now
  python -m tenpapers reproduce {name}           runs its table
  python -m tenpapers probes {name}
  python -m tenpapers claims {name} --record     judges its claims
  python tools/notebooks.py execute book/{name}.ipynb
  add "- file: book/{name}" to _toc.yml and a line to README.md and book/map.md
  python -m pytest tests/nnlib/{name} tests/tenpapers/{name}
Then replace the James-Stein estimator by the paper, file by file (CONTRIBUTING.md)."""


def new_chapter(name: str, title: str, root: Path) -> list[Path]:
    """Write a chapter that runs.

    Args:
        name: A Python name, lower case: of the notebook, of both packages and of the record.
        title: Of the page.
        root: The checkout.

    Returns:
        The files written.

    Raises:
        ValueError: for a name that is none, or is taken; nothing is written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ValueError(f"a chapter's name is lower-case words joined by underscores, as weight_decay: got {name!r}")
    targets = {source: root / target.replace("CHAPTER", name) for source, target in FILES.items()}
    if taken := [path for path in targets.values() if path.exists()]:
        raise ValueError(f"there is a chapter or room {name!r} already: {taken[0].relative_to(root)}")
    for source, path in targets.items():
        text = (TEMPLATE / source).read_text(encoding="utf-8")
        text = text.replace("CHAPTER", name).replace("HYPHENS", name.replace("_", "-")).replace("TITLE", title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_notebook(text) if path.suffix == ".ipynb" else text, encoding="utf-8")
        if path.parts[-3] in ("nnlib", "tenpapers") and path.name.startswith("test_"):
            (path.parent / "__init__.py").touch()
    return list(targets.values())


def _notebook(text: str) -> str:
    """Cells from text: each begins with a line ``%% kind tag …``."""
    cells = []
    for part in re.split(r"^%% ", text, flags=re.MULTILINE)[1:]:
        head, _, source = part.partition("\n")
        kind, *tags = head.split()
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        cells.append(make(source.strip("\n"), id=f"cell-{len(cells):03d}", metadata={"tags": tags} if tags else {}))
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)) + "\n"
