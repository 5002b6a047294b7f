"""Explorers: what they refuse, the grid on the page, and the live widget."""

import importlib
import itertools
import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest

from tenpapers.page import explorer
from tenpapers.page import look as figures
from tenpapers.page.explorer import Control, explore

CALLS = []


def line(slope: float, kind: str = "up", bars: bool = False) -> go.Figure:
    """A line; the second kind has one curve more, a shape and a title that the first has not."""
    CALLS.append((slope, kind, bars))
    x = np.linspace(0, 1, 50)
    figure = go.Figure(go.Bar(x=x, y=slope * x) if bars else go.Scatter(x=x, y=slope * x))
    if kind == "down":
        figure.add_scatter(x=x, y=-slope * x, name="down").add_hline(0).update_layout(title_text="falls")
    return figures.describe(figure, "test-line", alt="A line.", summary=f"It ends at {slope}.")


def wordless(slope: float) -> go.Figure:
    figure = figures.describe(go.Figure(), "test-line", alt="A line.", summary="It ends.")
    return figure if slope < 3 else figure.update_layout(meta={"name": "test-line", "alt": "A line."})


def heavy(slope: float, seed: int) -> go.Figure:
    noise = np.random.default_rng([int(slope), seed]).normal(size=2000)
    return figures.describe(go.Figure(go.Scatter(y=noise)), "test-heavy", alt="Noise.", summary="Noise.")


def no_figure(slope: float):
    return slope


def payload(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*)</script>', html, re.S).group(1))


def test_the_page_holds_one_figure_a_grid_point_with_the_last_control_fastest():
    grid = payload(explore(line, slope=[1, 2, 3], kind=Control(["up", "down"], start="down")).html)
    assert [control["values"] for control in grid["controls"]] == [[1, 2, 3], ["up", "down"]]
    assert len(grid["figures"]) == 6 and grid["start"] == 1
    layouts = [grid["parts"][figure["layout"]["$"]] for figure in grid["figures"]]
    summaries = [grid["parts"][layout["meta"]["$"]]["summary"] for layout in layouts]
    assert summaries == [f"It ends at {slope}." for slope, _ in itertools.product([1, 2, 3], ["up", "down"])]


def test_the_template_is_stored_once():
    html = explore(line, slope=list(range(1, 30))).html
    assert html.count("minexponent") == 1  # both axes of the only template are equal, and so a single part


def test_numbers_get_a_slider_and_texts_and_booleans_get_buttons():
    html = explore(line, slope=[0.5, 0.25], kind=["up", "down"], bars=[False, True]).html
    assert html.count('type="range"') == 1 and html.count('type="radio"') == 4
    assert '<label for="test-line-slope">slope</label>' in html and "<legend>kind</legend>" in html
    assert 'aria-valuetext="0.5"' in html and "<span>no</span>" in html


def test_values_that_differ_late_are_shown_with_as_many_digits_as_tell_them_apart():
    # With three digits 0.9995 and 0.9999 would both read 1.
    assert Control([0.9, 0.9995, 0.9999]).texts == ["0.9", "0.9995", "0.9999"]
    assert Control([64, 16_384], unit="examples").texts == ["64 examples", "16,384 examples"]
    assert Control([0.001, 1e-7, 250.0]).texts == ["0.001", "1×10⁻⁷", "250"]


@pytest.mark.parametrize(("count", "rows"), [(40, 40), (41, 41)])
def test_a_small_grid_is_in_the_table_whole(count, rows):
    assert explore(line, slope=list(range(count))).html.count("<tr>") == rows + 1


def test_a_large_grid_is_in_the_table_one_control_at_a_time():
    html = explore(line, slope=list(range(21)), kind=["up", "down"]).html
    assert html.count("<tr>") == 1 + 21 + 1  # header, every slope going up, the first slope going down


def test_the_function_is_named_on_the_page_and_can_be_found():
    name = re.search(r'data-function="([^"]*)"', explore(line, slope=[1, 2]).html).group(1)
    module, _, function = name.rpartition(".")
    assert getattr(importlib.import_module(module), function) is line


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore(wordless, slope=[1, 2, 3]), r"wordless at slope=3 lacks summary.*describe"),
        (lambda: explore(no_figure, slope=[1, 2]), "must return a plotly Figure: got int at slope=1"),
        (lambda: explore(line, slope=[1, 2], width=[1, 2]), r"\(slope, kind, bars\).*width"),
        (lambda: explore(line, kind=["up", "down"]), r"\(slope, kind, bars\).*slope"),
        (lambda: explore(line), "at least one control"),
        (lambda: explore(lambda slope: line(slope), slope=[1, 2]), "named function"),
        (lambda: Control([1, 2], "power", start=3), "'power' starts at 3.*not among"),
        (lambda: Control([1]), "at least two values"),
        (lambda: Control([1, 2, 1]), "all different"),
        (lambda: Control([[1], [2]]), "numbers, texts or booleans"),
        (lambda: Control([1, float("nan")]), "finite"),
        (lambda: Control([1, "a"]), "either"),
    ],
)
def test_bad_input_gets_an_error_that_says_what(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_grid_over_the_allowance_is_refused_with_advice_that_works():
    with pytest.raises(ValueError, match=r"kB, 200 kB are allowed.*40 × 2 = 80 grid points.*Thin 'slope'") as error:
        explore(heavy, slope=list(range(40)), seed=[0, 1])
    fitting = int(re.search(r"to about (\d+) values", str(error.value)).group(1))
    assert len(explore(heavy, slope=list(range(fitting)), seed=[0, 1]).html.encode()) <= explorer.ALLOWANCE


def test_jupyterlab_gets_a_widget_and_the_book_gets_html():
    bundle = explore(line, slope=[1, 2])._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}


def parts(shown: explorer.Explorer):
    row, plot, _status, _words = shown.widget.children
    return row.children[:-1], plot, row.children[-1]


def drawn(figure) -> tuple:
    """What a figure draws, without the identities that a widget adds."""
    content = figure.to_plotly_json()
    layout = {key: value for key, value in sorted(content["layout"].items()) if value and key != "template"}
    return [repr({k: v for k, v in sorted(trace.items()) if k != "uid"}) for trace in content["data"]], repr(layout)


def test_the_live_figure_equals_the_function_at_every_setting_in_any_order():
    # Breaks if what one setting draws (a second curve, a line, a title, bars) stays when the next one has none.
    shown = explore(line, slope=[1, 2, 3], kind=["up", "down"], bars=[False, True])
    inputs, plot, _ = parts(shown)
    settings = list(itertools.product([1, 2, 3], ["up", "down"], [False, True]))
    for i in np.random.default_rng(0).permutation(len(settings)):
        for widget, value in zip(inputs, settings[i], strict=True):
            widget.value = value
        assert drawn(plot) == drawn(line(*settings[i]))


def test_the_live_explorer_remembers_and_resets():
    shown = explore(line, slope=[1, 2, 3])
    CALLS.clear()
    (slider,), plot, button = parts(shown)
    for value in (2, 1, 2, 3):
        slider.value = value
    button.click()
    assert slider.value == 1 and plot.data[0].y[-1] == 1
    assert CALLS == [(1, "up", False), (2, "up", False), (3, "up", False)]  # once each, though visited twice


def test_building_an_explorer_builds_no_widget():
    assert "widget" not in vars(explore(line, slope=[1, 2]))


def test_the_live_explorer_says_that_it_computes():
    # Without the sign, a reader of a slow figure moves the slider again and again.
    shown = explore(line, slope=[1, 2, 3])
    row, _plot, status, _words = shown.widget.children
    said = []
    status.observe(lambda change: said.append(change.new), names="value")
    for value in (2, 1, 2):
        row.children[0].value = value
    assert said == ["<em>computing …</em>", "It ends at 2.", "It ends at 1.", "It ends at 2."]
