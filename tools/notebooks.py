"""Execute, normalise and check the book's notebooks.

    python tools/notebooks.py execute [paths]            run in place, with an empty sweep cache, and normalise
    python tools/notebooks.py normalise [paths]          drop what differs from run to run
    python tools/notebooks.py check [paths]              name what the book's rules forbid; exit code 1 if anything
    python tools/notebooks.py run CHAPTER PROFILE        run with a profile, into a scratch folder

Without paths: every notebook below ``book/``.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
MAX_BYTES = 1_500_000
COVER = "index.ipynb"  # shows things, runs no experiment: no parameters
# The page shows our own HTML; beside it, JupyterLab would prefer a dead widget, and plotly's JSON is the figure again.
DROPPED = ("application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json")
# Fixed threads and instruction set: a sum in another order is another last digit.
FIXED = {
    "OMP_NUM_THREADS": "1",
    "MKL_CBWR": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "DNNL_MAX_CPU_ISA": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "PYTHONHASHSEED": "0",
}
# A path of somebody's machine: a home, a temporary or a root folder, on any system.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|Users|root|tmp|work|workspace|mnt|private)/[\w.]|\b[A-Z]:\\+Users")


def notebooks(paths: list[str] | None = None) -> list[Path]:
    """The given notebooks, or all of the book's."""
    if paths:
        return [Path(path).resolve() for path in paths]
    return sorted(path for path in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop, in place, everything that differs between two runs of the same notebook."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("papermill", None)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {"name": "python"}  # the version is the machine's, not the notebook's
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
        for key in ("execution", "papermill", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        if cell.metadata.get("tags") == []:
            cell.metadata.pop("tags")
        if cell.cell_type != "code":
            continue
        cell.outputs = list(_merged_streams(cell.outputs))
        for output in cell.outputs:
            if "data" in output:
                for mimetype in DROPPED:
                    output.data.pop(mimetype, None)
                output.metadata = {}
            if output.output_type == "stream":
                output.text = _folders_hidden(output.text)
            elif "text/plain" in output.get("data", {}):
                output.data["text/plain"] = _folders_hidden(output.data["text/plain"])
    return notebook


def _merged_streams(outputs: list) -> Iterator:
    """Neighbouring pieces of one stream as one: where they are cut depends on timing."""
    last = None
    for output in outputs:
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            last = output
            yield output


def _folders_hidden(text: str) -> str:
    """Text without the places where this machine keeps the book and the home folder."""
    for folder, name in ((ROOT, "<book>"), (Path.home(), "~")):
        text = text.replace(str(folder), name) if folder != Path("/") else text
    return text


def problems(path: Path) -> list[str]:
    """What the book's rules forbid in a notebook, each in one line; an empty list for a good one."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    run = [cell for cell in code if cell.source.strip()]
    found = []
    if not run:
        found.append("has no code")
    if [cell.execution_count for cell in run] != list(range(1, len(run) + 1)):
        found.append("cells were not all executed, once, from top to bottom")
    if len(code) != len(run):
        found.append("has empty code cells")
    for number, cell in enumerate(notebook.cells):
        found += [f"cell {number}: {problem}" for problem in _cell_problems(cell)]
    found += _parameter_problems(notebook, path.name)
    if "widgets" in notebook.metadata:
        found.append("stores widget state")
    if len(text.encode()) > MAX_BYTES:
        found.append(f"has {len(text.encode()):,} bytes, more than {MAX_BYTES:,}")
    if match := MACHINE_PATH.search(text):
        found.append(f"names a path of a machine: {text[max(0, match.start() - 20) : match.end() + 20]!r}")
    fresh = nbformat.writes(normalise(nbformat.reads(text, as_version=4)))
    if json.loads(fresh) != json.loads(text):
        found.append("is not normalised: python tools/notebooks.py normalise")
    return found


def _cell_problems(cell: nbformat.NotebookNode) -> Iterator[str]:
    if "raises-exception" in cell.metadata.get("tags", []):
        yield "is allowed to fail: show an error by catching and printing it"
    if cell.cell_type != "code":
        if re.search(r"!\[\s*\]\(", cell.source) or re.search(r"<img(?![^>]*\balt=\"[^\"]+\")", cell.source):
            yield "an image without alt text"
        return
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            yield f"fails with {output.ename}"
        if output.get("name") == "stderr":
            yield f"writes to stderr: {output.text[:80]!r}"
        data = output.get("data", {})
        if any(kind.startswith("image/") for kind in data):
            options = cell.metadata.get("mystnb", {})
            if not (options.get("image", {}).get("alt") or options.get("figure", {}).get("alt")):
                yield "an image without alt text (cell metadata mystnb: {image: {alt: ...}})"
        pictures = _Pictures()
        pictures.feed(data.get("text/html", ""))
        if pictures.silent or pictures.figures > pictures.described:
            yield "a figure without alt text"


class _Pictures(HTMLParser):
    """Counts figures, pictures that say in words what they show, and pictures that do not."""

    def __init__(self):
        super().__init__()
        self.figures = self.described = self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.figures += tag == "figure"
        if tag in ("img", "svg", "canvas") or attributes.get("role") == "img":
            words = attributes.get("alt" if tag == "img" else "aria-label") or ""
            if words.strip():
                self.described += 1
            elif attributes.get("aria-hidden") != "true":
                self.silent += 1


def _parameter_problems(notebook: nbformat.NotebookNode, name: str) -> Iterator[str]:
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if name == COVER:
        return
    if len(tagged) != 1:
        yield f"has {len(tagged)} cells tagged 'parameters', one is needed"
        return
    names = re.findall(r"^(\w+)\s*(?::[^=\n]+)?=(?!=)", tagged[0].source, re.MULTILINE)
    if not {"profile", "seed"} <= set(names):
        yield f"its parameters are {', '.join(names)}: profile and seed are needed"
    if len(names) > 5:
        yield f"has {len(names)} parameters, more than 5"


def environment(cache: str | Path) -> dict[str, str]:
    """Where a page's text is computed: fixed threads, no data and no records of this machine, its own cache.

    The instruction set stays as it was set, so that the text can be checked on another one.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("NNLIB_DATA", "NNLIB_RESULTS")}
    capability = os.environ.get("ATEN_CPU_CAPABILITY", FIXED["ATEN_CPU_CAPABILITY"])
    return kept | FIXED | {"ATEN_CPU_CAPABILITY": capability, "NNLIB_CACHE": str(cache)}


def execute(path: Path, cache: str) -> None:
    """Run a notebook in place, from its own folder, and normalise it; a failing one is left as it was."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}})
    client.execute(env=environment(cache))
    write(notebook, path)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Normalise and replace the file in one step, so that an interruption leaves the old one whole."""
    part = path.with_name(f".{path.name}.part")
    nbformat.write(normalise(notebook), part)
    os.replace(part, path)


def run(chapter: str, profile: str) -> Path:
    """Run a chapter with a profile, whose recorded tables it reads; the executed copy is in a scratch folder."""
    import papermill  # not needed to read or check notebooks

    source = BOOK / f"{chapter}.ipynb"
    if not source.exists():
        known = ", ".join(path.stem for path in notebooks() if path.name != COVER)
        sys.exit(f"there is no chapter {chapter!r}: known are {known}")
    if profile not in ("quick", "laptop", "paper"):
        sys.exit(f"profile must be quick, laptop or paper: got {profile!r}")
    copy = Path(tempfile.mkdtemp(prefix=f"{chapter}-{profile}-")) / source.name
    papermill.execute_notebook(source, copy, {"profile": profile}, cwd=BOOK, kernel_name="python3")
    return copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("execute", "normalise", "check"):
        commands.add_parser(name).add_argument("paths", nargs="*")
    once = commands.add_parser("run")
    once.add_argument("chapter")
    once.add_argument("profile")
    arguments = parser.parse_args()
    if arguments.command == "run":
        print("the run is in", run(arguments.chapter, arguments.profile))
        return
    bad = False
    with tempfile.TemporaryDirectory() as cache:
        for path in notebooks(arguments.paths):
            if arguments.command == "execute":
                execute(path, cache)
            elif arguments.command == "normalise":
                write(nbformat.read(path, as_version=4), path)
            found = problems(path)
            bad |= bool(found)
            print(f"{os.path.relpath(path)}: {'; '.join(found) or 'good'}")
    sys.exit(bad)


if __name__ == "__main__":
    main()
