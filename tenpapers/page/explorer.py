"""One figure with controls, two lives: a live widget in JupyterLab, a precomputed grid on a static page.

``explore(figure, power=[0, 1, 2])`` calls the pure function ``figure(power=...)`` at every grid point once, for the
page, and again on demand, for the widget. The page's half is ``tenpapers.page.static`` and ``assets/explorer.js``.
"""

import inspect
import itertools
import math
import numbers
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from html import escape
from typing import Any

import plotly.graph_objects as go

from tenpapers.page.static import html_table, page_html
from tenpapers.page.text import number

ALLOWANCE = 200_000  # bytes of HTML an explorer
SLOW = 0.15  # seconds: above, the live figure follows a slider only when it is let go
WHOLE_TABLE = 40  # rows: above, the table moves one control at a time


class Control:
    """The values that one argument of a figure takes.

    Args:
        values: at least two different numbers (a slider, in this order), or texts or booleans (buttons).
        label: what the reader sees; by default, the argument's name.
        unit: said behind each value.
        start: the value shown first; by default, the first.

    Raises:
        ValueError: fewer than two values, a repeated value, values of other or of mixed types, or a start that is not
            among them.

    >>> Control([0.1, 0.5, 0.9], "momentum", start=0.9).start_index
    2
    """

    def __init__(self, values: Sequence, label: str = "", unit: str = "", start=None):
        self.values = [value.item() if hasattr(value, "item") else value for value in values]
        self.label, self.unit, self.name = label, unit, ""
        what = f"the control {label!r}" if label else "a control"
        if any(not isinstance(value, str | numbers.Real) for value in self.values):
            raise ValueError(f"{what} takes numbers, texts or booleans: got {self.values}")
        if any(isinstance(value, float) and not math.isfinite(value) for value in self.values):
            raise ValueError(f"{what} takes finite numbers: got {self.values}")
        if len({_kind(value) for value in self.values}) > 1:
            raise ValueError(f"{what} takes either numbers or texts or booleans: got {self.values}")
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"{what} needs at least two values, all different: got {self.values}")
        if start is not None and start not in self.values:
            raise ValueError(f"{what} starts at {start!r}, which is not among its values {self.values}")
        self.start_index = 0 if start is None else self.values.index(start)

    def named(self, name: str) -> "Control":
        """The same control for the argument of this name."""
        control = Control(self.values, self.label or name.replace("_", " "), self.unit, self.values[self.start_index])
        control.name = name
        return control

    @property
    def is_range(self) -> bool:
        """Whether this is a slider (numbers), not a row of buttons."""
        return _kind(self.values[0]) == "number"

    @cached_property
    def texts(self) -> list[str]:
        """The values as a reader sees them: as few digits as tell them apart."""
        for digits in range(3, 18):
            texts = [_short(number(value, digits)) for value in self.values]
            if len(set(texts)) == len(texts):
                break
        return [f"{text} {self.unit}".rstrip() for text in texts]


def _meta(figure: go.Figure) -> dict[str, Any]:
    """The words of a described figure; none of one that is not."""
    layout: Any = figure.layout  # plotly makes its attributes at run time
    return layout.meta if isinstance(layout.meta, dict) else {}


def _kind(value) -> str:
    """Which of the three kinds of control a value asks for."""
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _short(text: str) -> str:
    """0.500 as 0.5: a control's value is exact, its zeros say nothing."""
    mantissa, cross, power = text.partition("×")
    return (mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa) + cross + power


class Explorer:
    """A figure with controls; made by ``explore``. Shows itself in JupyterLab (live) and on a page (static).

    Attributes:
        html: the static life.
        widget: the live one, built when first asked for.
    """

    def __init__(self, figure: Callable[..., go.Figure], controls: list[Control]):
        self.figure, self.controls = figure, controls
        self._memo: dict[tuple, go.Figure] = {}
        self.html = self._static()

    def _at(self, values: tuple) -> go.Figure:
        """The figure at these values of the controls; a clear error if it lacks its words."""
        where = ", ".join(f"{control.name}={value!r}" for control, value in zip(self.controls, values, strict=True))
        figure = self.figure(**{control.name: value for control, value in zip(self.controls, values, strict=True)})
        if not isinstance(figure, go.Figure):
            raise ValueError(f"{self._function} must return a plotly Figure: got {type(figure).__name__} at {where}")
        meta = _meta(figure)
        missing = [word for word in ("name", "alt", "summary") if not meta.get(word)]
        if missing:
            raise ValueError(
                f"{self._function} at {where} lacks {' and '.join(missing)}: "
                "pass the figure through tenpapers.page.look.describe(figure, name=..., alt=..., summary=...)"
            )
        return figure

    @property
    def _function(self) -> str:
        return f"{self.figure.__module__}.{self.figure.__qualname__}"

    @property
    def _start(self) -> tuple:
        return tuple(control.values[control.start_index] for control in self.controls)

    def _static(self) -> str:
        """The whole grid as HTML, within the allowance."""
        points = list(itertools.product(*(control.values for control in self.controls)))
        figures = [self._at(values).to_dict() for values in points]
        summaries = [figure["layout"]["meta"]["summary"] for figure in figures]
        table = self._table(dict(zip(points, summaries, strict=True)))
        html = page_html(figures, self.controls, points.index(self._start), table, self._function)
        size = len(html.encode())
        if size > ALLOWANCE:
            longest = max(self.controls, key=lambda control: len(control.values))
            fitting = math.floor(len(longest.values) * ALLOWANCE / size)
            lengths = " × ".join(str(len(control.values)) for control in self.controls)
            raise ValueError(
                f"the explorer of {self._function} takes {size / 1000:.0f} kB, {ALLOWANCE / 1000:.0f} kB are allowed: "
                f"it has {lengths} = {len(points)} grid points. Thin {longest.name!r} from {len(longest.values)} to "
                f"about {fitting} values, or draw fewer points a curve."
            )
        return html

    def _table(self, summaries: dict[tuple, str]) -> str:
        """The key number at each setting: of the whole grid if it is small, else along each control from the start."""
        positions = list(itertools.product(*(range(len(control.values)) for control in self.controls)))
        if len(positions) > WHOLE_TABLE:
            start = tuple(control.start_index for control in self.controls)
            positions = [p for p in positions if sum(a != b for a, b in zip(p, start, strict=True)) <= 1]
        rows = []
        for position in positions:
            picked = list(zip(self.controls, position, strict=True))
            summary = summaries[tuple(control.values[i] for control, i in picked)]
            rows.append([control.texts[i] for control, i in picked] + [summary])
        return html_table([control.label for control in self.controls] + ["what the figure shows"], rows)

    @cached_property
    def widget(self):
        """The live explorer: sliders and buttons over a FigureWidget that the kernel recomputes."""
        import ipywidgets

        begun = time.perf_counter()
        shown = self._memo[self._start] = self._at(self._start)
        fast = time.perf_counter() - begun < SLOW
        plot = go.FigureWidget(shown)
        status = ipywidgets.HTML(escape(_meta(shown)["summary"]))
        inputs = []
        for control in self.controls:
            common = {
                "options": list(zip(control.texts, control.values, strict=True)),
                "value": control.values[control.start_index],
                "description": control.label,
                "layout": {
                    "width": "26em" if control.is_range else "auto",
                    "max_width": "100%",
                    "margin": "2px 2em 2px 0",
                },
            }
            style = {"description_width": "initial"}
            if control.is_range:
                inputs.append(ipywidgets.SelectionSlider(continuous_update=fast, style=style, **common))
            else:
                inputs.append(ipywidgets.ToggleButtons(style=style | {"button_width": "auto"}, **common))

        def update(_change):
            values = tuple(widget.value for widget in inputs)
            if values not in self._memo:
                status.value = "<em>computing …</em>"
                self._memo[values] = self._at(values)
            self._show(plot, self._memo[values])
            status.value = escape(_meta(self._memo[values])["summary"])

        def reset(_button):
            for widget, value in zip(inputs, self._start, strict=True):
                widget.value = value

        for widget in inputs:
            widget.observe(update, names="value")
        button = ipywidgets.Button(description="Reset", layout={"width": "6em"})
        button.on_click(reset)
        row = ipywidgets.Box([*inputs, button], layout={"flex_flow": "row wrap", "align_items": "center"})
        words = ipywidgets.HTML(f"<details><summary>Description</summary>{escape(_meta(shown)['alt'])}</details>")
        return ipywidgets.VBox([row, plot, status, words])

    @staticmethod
    def _show(plot: go.FigureWidget, figure: go.Figure) -> None:
        """Turn the plot into the figure, in one message where the traces are of the same kinds."""
        if [trace.type for trace in plot.data] != [trace.type for trace in figure.data]:
            plot.data = []
            plot.add_traces(figure.data)
        with plot.batch_update():
            for old, new in zip([plot.layout, *plot.data], [figure.layout, *figure.data], strict=True):
                before, after = old.to_plotly_json(), new.to_plotly_json()
                gone = set(before) - set(after) - {"uid"}
                old.update(dict.fromkeys(gone) | {key: new[key] for key in after}, overwrite=True)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        """Both lives; JupyterLab prefers the widget, the book takes the HTML."""
        live = self.widget._repr_mimebundle_()
        return (live or {}) | {"text/html": self.html, "text/plain": f"Explorer of {self._function}"}

    def __repr__(self) -> str:
        return f"Explorer of {self._function}"


def explore(figure: Callable[..., go.Figure], /, **controls: Sequence | Control) -> Explorer:
    """A figure that the reader changes: live in JupyterLab, from a precomputed grid on a static page.

    Args:
        figure: a pure function ``figure(**values) -> plotly.graph_objects.Figure`` of a module, whose result went
            through ``tenpapers.page.look.describe`` with a summary.
        controls: for each argument a sequence of values, or a ``Control``.

    Returns:
        An object that shows itself as the last line of a cell.

    Raises:
        ValueError: a control is no argument of the function, or an argument has neither control nor default; the figure
            lacks its name, alt text or summary somewhere on the grid; the grid is larger than 200 kB.

    Example:
        ``explore(figures.nqm.batch_size_lab, target=Control([0.1, 0.01], "target risk"), method=["SGD", "Momentum"])``
    """
    name = getattr(figure, "__qualname__", "")
    if not name or "<" in name:
        raise ValueError(
            f"explore() takes a named function, so that its page can be checked against it: got {figure!r}"
        )
    if not controls:
        raise ValueError(f"explore({name}) needs at least one control; a figure without controls shows itself")
    try:
        inspect.signature(figure).bind(**controls)
    except TypeError as error:
        parameters = ", ".join(inspect.signature(figure).parameters)
        raise ValueError(f"the controls of explore({name}) don't fit its arguments ({parameters}): {error}") from error
    return Explorer(figure, [(c if isinstance(c, Control) else Control(c)).named(name) for name, c in controls.items()])
