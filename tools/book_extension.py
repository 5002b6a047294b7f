"""Sphinx extension of the book: pages that ask no other host, over http and ``file://`` alike."""

import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

import plotly


def third_party_scripts() -> list[Path]:
    """The two large scripts that pages need, inside installed packages: plotly.js and MathJax (TeX in, SVG out)."""
    mathjax = distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")
    return [Path(plotly.__file__).parent / "package_data" / "plotly.min.js", Path(str(mathjax))]


def copy_scripts(app, exception) -> None:
    """Copy the scripts beside our own in ``_static``: not committed, always the installed version."""
    if exception is None and app.builder.format == "html":
        for script in third_party_scripts():
            shutil.copy2(script, Path(app.outdir) / "_static" / script.name)


WIDE_TABLE = '<div class="pst-scrollable-table-container"'


def mend_pages(app, exception) -> None:
    """Two things that the theme writes into every page.

    Font preloads go: each is an error on the console over ``file://``, and none is needed. The frame in which a wide
    table scrolls gets the keyboard's focus.
    """
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            text = re.sub(r'<link rel="preload"[^>]*>\n?', "", text)
            text = text.replace(f"{WIDE_TABLE}>", f'{WIDE_TABLE} tabindex="0" role="region" aria-label="Table">')
            page.write_text(text, encoding="utf-8")


def keep_bars(app, what, name, obj, options, lines) -> None:
    """Escape the bars of norms, as in |x|, which reStructuredText would take for a substitution."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("``")  # every other part is literal
            parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
            lines[i] = "``".join(parts)


ROOT = Path(__file__).resolve().parent.parent


def link_rooms(app, what, name, obj, options, lines) -> None:
    """From a function to its chapter, its tests and its record in one step.

    A chapter that a docstring names becomes a link; a paper's name in ``nnlib.<paper>`` leads to its tests and record.
    """
    for i, line in enumerate(lines):
        lines[i] = re.sub(r"(?:``)?book/(\w+)\.ipynb(?:``)?", r":doc:`/book/\1`", line)
    house, _, rest = name.partition(".")
    room = rest.partition(".")[0]
    tests, record = Path("tests", house, room), Path("tenpapers", "results", f"{room}.json")
    if what in ("module", "function", "class") and room and (ROOT / tests).is_dir():
        told = f"Tests: ``{tests.as_posix()}``."
        if (ROOT / record).exists():
            told += f" Record: ``{record.as_posix()}``."
        lines += ["", told, ""]


def keep_defaults(app, what, name, obj, options, signature, return_annotation):
    """A default such as "Björck" without the comma after it.

    Sphinx cuts defaults out of the source by positions counted in bytes, and takes one character too many for each
    letter outside ASCII; it could then not parse the signature.
    """
    return signature and signature.replace('",,', '",').replace('",)', '")'), return_annotation


def setup(app):
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("autodoc-process-docstring", link_rooms)
    app.connect("autodoc-process-signature", keep_defaults)
    app.connect("build-finished", mend_pages)
    app.connect("build-finished", copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
