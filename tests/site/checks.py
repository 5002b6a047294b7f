"""What the browser tests look at: the data that a page has drawn, against the Python function that it names."""

import importlib
import json
import math

import numpy as np
from playwright.sync_api import Locator, Page

DIGITS = 4  # to which the page's data are rounded

DRAWN = """
(element) => ({
  data: element.querySelector(".explorer-plot").data.map(({ uid, ...trace }) => trace),
  summary: element.querySelector(".explorer-summary")?.textContent,
  point: Number(element.dataset.point),
})
"""


def explorers(page: Page) -> list[Locator]:
    """The explorers of a page: figures that name the function they come from."""
    return page.locator("figure.explorer[data-function]").all()


def function_of(explorer: Locator):
    """The Python function that an explorer names."""
    module, _, name = explorer.get_attribute("data-function").rpartition(".")
    return getattr(importlib.import_module(module), name)


def controls_of(explorer: Locator) -> list[dict]:
    """The controls of an explorer, each with its name, values and texts."""
    return json.loads(explorer.locator("script[type='application/json']").text_content())["controls"]


def assert_agrees(explorer: Locator, positions: list[int]) -> None:
    """What an explorer shows is what its function returns when its controls are at these positions."""
    controls = controls_of(explorer)
    point = 0
    for control, position in zip(controls, positions, strict=True):
        point = point * len(control["values"]) + position
    explorer.page.wait_for_function(
        "([id, point]) => document.getElementById(id).dataset.point === String(point)",
        arg=[explorer.get_attribute("id"), point],
        timeout=5000,
    )
    values = {control["name"]: control["values"][i] for control, i in zip(controls, positions, strict=True)}
    figure = function_of(explorer)(**values)
    drawn = explorer.evaluate(DRAWN)
    assert drawn["summary"] == figure.layout.meta["summary"], values
    assert len(drawn["data"]) == len(figure.data), values
    for shown, trace in zip(drawn["data"], figure.data, strict=True):
        keys = [key for key in trace.to_plotly_json() if key not in ("uid", "meta")]
        assert_equal(shown, {key: _plain(trace[key]) for key in keys}, f"{values}, {trace.name}")


def _plain(value):
    return value.to_plotly_json() if hasattr(value, "to_plotly_json") else value


def assert_equal(shown, expected, where: str) -> None:
    """Equal, numbers to the page's rounding; NaN and infinities are gaps (null) on the page."""
    if isinstance(expected, dict):
        assert isinstance(shown, dict), where
        for key, value in expected.items():
            assert_equal(shown.get(key), value, f"{where}.{key}")
    elif isinstance(expected, list | tuple | np.ndarray):
        assert len(shown) == len(expected), where
        for i, (a, b) in enumerate(zip(shown, expected, strict=True)):
            assert_equal(a, b, f"{where}[{i}]")
    elif isinstance(expected, float | np.floating) or (isinstance(expected, int | np.integer) and abs(expected) >= 1e7):
        if math.isfinite(expected):
            assert shown is not None and math.isclose(shown, expected, rel_tol=0.51 * 10 ** (1 - DIGITS)), (
                f"{where}: the page shows {shown}, Python gives {expected}"
            )
        else:
            assert shown is None, f"{where}: the page shows {shown} for {expected}"
    else:
        expected = expected.item() if isinstance(expected, np.generic) else expected
        assert shown == expected, f"{where}: the page shows {shown!r}, Python gives {expected!r}"


def move_by_keyboard(explorer: Locator):
    """Move every control by keys alone, to its ends and between; yields the positions after each move."""
    controls = controls_of(explorer)
    positions = explorer.evaluate(
        "(e, names) => names.map((name) => Number(new FormData(e.querySelector('form')).get(name)))",
        [control["name"] for control in controls],
    )
    for i, control in enumerate(controls):
        last = len(control["values"]) - 1
        chosen = explorer.locator(f"input[name='{control['name']}']:is([type='range'], :checked)")
        if chosen.get_attribute("type") == "range":
            moves = [("End", last), ("ArrowLeft", last - 1), ("Home", 0), ("ArrowRight", 1)]
            label = explorer.locator(f"label[for='{chosen.get_attribute('id')}']").inner_text()
            chosen = explorer.get_by_label(label, exact=True)
        else:  # arrows go round among the buttons of a group
            start = positions[i]
            moves = [("ArrowRight", (start + k) % (last + 1)) for k in range(1, last + 1)]
        chosen.focus()
        for key, position in moves:
            explorer.page.keyboard.press(key)
            positions[i] = position
            yield list(positions)
