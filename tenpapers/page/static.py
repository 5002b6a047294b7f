"""A figure, or a grid of figures, as static HTML that ``assets/explorer.js`` brings to life: no kernel, no network.

The HTML holds the controls, the words for readers without scripts and on paper (the description and a table), and the
data as JSON: ``figures`` (one a grid point, the last control fastest), ``start`` (the one to show first), ``controls``
(name, values, texts), and ``parts``, in which every array and every larger piece stands once: ``{"$": 3}`` stands for
``parts[3]``, and ``{"f4": …}`` for little-endian floats in base64.
"""

import base64
import json
import math
from html import escape

import numpy as np

from tenpapers.page.text import number

DIGITS = 4  # significant, of what is drawn
EXACT = 1e7  # whole numbers below keep all their digits
NOTICE = "The interactive figure needs the book (with scripts) or a running kernel; its description and data follow."


def figure_html(figure: dict) -> str:
    """One figure as HTML.

    Args:
        figure: as ``go.Figure.to_dict`` gives it, described by ``tenpapers.page.look.describe``.

    Returns:
        HTML; for a figure without a description, a paragraph that says how to give it one.
    """
    meta = figure.get("layout", {}).get("meta")
    if not isinstance(meta, dict) or not meta.get("alt"):
        how = "<code>tenpapers.page.look.describe(figure, name=…, alt=…)</code>"
        return f'<p class="explorer-undescribed">This figure has no description yet: {how} gives it one.</p>'
    return page_html([figure], [], start=0, table=data_table(figure), function=None)


def page_html(figures: list[dict], controls: list, start: int, table: str, function: str | None) -> str:
    """A grid of figures and the controls that choose among them as HTML.

    Args:
        figures: one a grid point, in row-major order of the controls' values.
        controls: with ``name``, ``label``, ``unit``, ``values``, ``texts``, ``start`` and ``is_range`` each.
        start: index of the figure shown first.
        table: HTML table for readers without scripts.
        function: where the figures come from, ``module.name``, for tests that compare the page with Python.
    """
    meta = figures[start]["layout"]["meta"]
    name = meta["name"]
    height = figures[start]["layout"].get("height", 420)
    inputs = "".join(_range(name, c) if c.is_range else _radio(name, c) for c in controls)
    form = '<form class="explorer-controls" autocomplete="off" hidden>{}<button type="button">Reset</button></form>'
    summary = f'<p class="explorer-summary" aria-live="polite">{escape(meta.get("summary", ""))}</p>'
    return "\n".join(
        [
            f'<figure class="explorer" id="figure-{name}" style="--explorer-height: {height}px"'
            + (f' data-function="{escape(function)}">' if function else ">"),
            form.format(inputs) if controls else "",
            f'<div class="explorer-plot" role="img" aria-label="{escape(meta["alt"])}"></div>',
            summary if meta.get("summary") else "",
            f'<p class="explorer-notice"><em>{NOTICE}</em></p>',
            f'<details class="explorer-words" open><summary>Description and data</summary><p>{escape(meta["alt"])}</p>',
            f'<div class="explorer-table" tabindex="0" role="region" aria-label="Data: {name}">{table}</div></details>',
            f'<script type="application/json">{payload(figures, controls, start)}</script>',
            "</figure>",
        ]
    )


def payload(figures: list[dict], controls: list, start: int) -> str:
    """The JSON inside the page (see the top of this file)."""
    pool = Pool()
    content = {
        "start": start,
        "controls": [{"name": c.name, "values": c.values, "texts": c.texts} for c in controls],
        "figures": [{"data": pool.share(f["data"]), "layout": pool.share(f["layout"])} for f in figures],
        "parts": pool.parts,
    }
    return _dumps(content).replace("<", "\\u003c")  # no "</script>" inside a script


class Pool:
    """Distinct pieces of figures, each stored once."""

    def __init__(self):
        self.parts: list = []
        self._index: dict[str, int] = {}

    def share(self, value):
        """The value with its numbers rounded, and everything long in it replaced by a reference to its only copy."""
        if isinstance(value, dict) and "bdata" in value:
            value = _decoded(value)
        if isinstance(value, np.ndarray | list | tuple) and _is_numeric(value):
            value = _encoded(np.asarray(value))
        elif isinstance(value, np.ndarray | list | tuple):
            value = [self.share(entry) for entry in value]
        elif isinstance(value, dict):
            value = {key: self.share(entry) for key, entry in value.items() if entry is not None}
        else:
            value = _scalar(value)
        text = _dumps(value)
        if len(text) <= 16 or not isinstance(value, dict | list):
            return value
        if text not in self._index:
            self._index[text] = len(self.parts)
            self.parts.append(value)
        return {"$": self._index[text]}


def _dumps(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _decoded(array: dict) -> np.ndarray:
    """plotly's own coding of numpy arrays, undone."""
    flat = np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"])
    shape = array.get("shape")
    return flat.reshape([int(n) for n in shape.split(",")]) if shape else flat


def _is_numeric(values) -> bool:
    """Whether these are numbers in a row: no nested rows, no texts, no booleans."""
    if isinstance(values, np.ndarray):
        return values.ndim == 1 and values.dtype.kind in "fiu"
    return len(values) > 0 and all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values)


def _rounded(value: float, digits: int = DIGITS):
    """This many significant digits; whole numbers below 10⁷ exactly; None (a gap) for what JSON can't say."""
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < EXACT else float(f"{value:.{digits}g}")


def _scalar(value):
    """Numbers in a layout (ranges, positions) keep two digits more than data."""
    value = value.item() if isinstance(value, np.generic) else value
    return _rounded(value, DIGITS + 2) if isinstance(value, float) else value


def _encoded(values: np.ndarray):
    """Numbers in a row as a JSON list or as base64, whichever is shorter."""
    rounded = [_rounded(v) for v in values.tolist()]
    array = np.array([math.nan if v is None else v for v in rounded], dtype=float)
    with np.errstate(over="ignore", under="ignore"):
        single = array.astype("<f4")
    text = base64.b64encode(single.tobytes()).decode()
    exact = np.allclose(single, array, rtol=1e-6, atol=0, equal_nan=True)
    return {"f4": text} if exact and len(text) + 9 < len(_dumps(rounded)) else rounded


def _range(figure: str, control) -> str:
    """A labelled slider over the positions of an ordered sequence, with a read-out of the value."""
    key, text = f"{figure}-{control.name}", escape(control.texts[control.start_index])
    return (
        f'<div class="explorer-control"><label for="{key}">{escape(control.label)}</label>'
        f'<input type="range" id="{key}" name="{control.name}" min="0" max="{len(control.values) - 1}" step="1" '
        f'value="{control.start_index}" aria-valuetext="{text}"><output for="{key}">{text}</output></div>'
    )


def _radio(figure: str, control) -> str:
    """A labelled group of buttons, one a value."""
    buttons = "".join(
        f'<label><input type="radio" name="{control.name}" value="{i}"{" checked" * (i == control.start_index)}>'
        f"<span>{escape(text)}</span></label>"
        for i, text in enumerate(control.texts)
    )
    return f'<fieldset class="explorer-control"><legend>{escape(control.label)}</legend><div>{buttons}</div></fieldset>'


def html_table(header: list[str], rows: list[list[str]]) -> str:
    """A plain table; the first cell of each row is its header."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def data_table(figure: dict, most: int = 12) -> str:
    """The data of a figure as a table, at most ``most`` points a trace, spread evenly from the first to the last."""
    rows = []
    for n, trace in enumerate(figure["data"], 1):
        label = trace.get("name") or f"{trace.get('type', 'scatter')} {n}"
        columns = [_column(trace, key) for key in ("x", "y", "z")]
        if columns[2] and np.ndim(columns[2][0]) > 0:  # a matrix: one row a cell
            x, y, z = columns
            cells = [(x[j] if x else j, y[i] if y else i, v) for i, row in enumerate(z) for j, v in enumerate(row)]
        else:
            length = max(map(len, columns))
            cells = list(zip(*(c or [None] * length for c in columns), strict=True))
        picked = sorted({round(k) for k in np.linspace(0, len(cells) - 1, most)}) if cells else []
        rows += [[label, *map(_cell, cells[k])] for k in picked]
    titles = [figure["layout"].get(f"{axis}axis", {}).get("title", {}).get("text") or axis for axis in "xy"]
    header = ["curve", *titles, "z"]
    if all(row[3] == "–" for row in rows):
        header, rows = header[:3], [row[:3] for row in rows]
    return html_table(header, rows)


def _column(trace: dict, key: str) -> list:
    values = trace.get(key)
    values = _decoded(values) if isinstance(values, dict) else values
    return [] if values is None else list(values)


def _cell(value) -> str:
    return number(value) if isinstance(value, int | float | str | np.generic) or value is None else str(value)
