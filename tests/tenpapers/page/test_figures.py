"""The book's template, colours and descriptions, and the static HTML of a figure."""

import base64
import html
import itertools
import json
import math
import re

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from plotly.subplots import make_subplots

from tenpapers.page import look as figures
from tenpapers.page.static import Pool, data_table

LIGHT, DARK = "#FFFFFF", ("#121212", "#14181E")  # the pages' backgrounds

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(color: str) -> np.ndarray:
    """sRGB hexadecimal to linear RGB."""
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] + 0.05 for color in (a, b))
    return high / low


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB to CIE Lab (D65)."""
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    t = matrix @ np.clip(rgb, 0, 1) / matrix.sum(1)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def described(figure: go.Figure, **more) -> go.Figure:
    return figures.describe(figure, "test-figure", alt="A test.", **more)


def read(output: str) -> dict:
    """The JSON inside a figure's HTML."""
    return json.loads(re.search(r'<script type="application/json">(.*)</script>', output, re.S).group(1))


def resolved(value, parts):
    """A value of the JSON with its references followed: what explorer.js does, in Python."""
    if isinstance(value, list):
        return [resolved(entry, parts) for entry in value]
    if isinstance(value, dict) and "$" in value:
        return resolved(parts[value["$"]], parts)
    if isinstance(value, dict) and "f4" in value:
        numbers = np.frombuffer(base64.b64decode(value["f4"]), "<f4").tolist()
        exact = lambda v: v.is_integer() and abs(v) < 2**24  # noqa: E731
        return [None if math.isnan(v) else v if exact(v) else float(f"{v:.6g}") for v in numbers]
    return {key: resolved(entry, parts) for key, entry in value.items()} if isinstance(value, dict) else value


def round_trip(values) -> list:
    pool = Pool()
    return resolved(json.loads(json.dumps(pool.share(values))), pool.parts)


@pytest.mark.parametrize("background", [LIGHT, *DARK])
def test_every_colour_is_visible_on_every_background(background):
    # Breaks if a colour is made lighter for one theme and lost in the other.
    contrasts = {name: contrast(color, background) for name, color in figures.COLORS.items()}
    assert min(contrasts.values()) >= 3, min(contrasts, key=contrasts.get)


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_of_two_methods_differ_for_every_reader(vision):
    colors = sorted(set(figures.COLORS.values()))
    distances = {
        (a, b): np.linalg.norm(lab(VISIONS[vision] @ linear(a)) - lab(VISIONS[vision] @ linear(b)))
        for a, b in itertools.combinations(colors, 2)
    }
    assert min(distances.values()) >= 20, min(distances, key=distances.get)


def test_colour_is_never_the_only_cue():
    methods = [name for name in figures.COLORS if name != "neutral"]
    assert len({figures.DASHES[name] for name in methods}) == len(methods)
    assert len({figures.MARKERS[name] for name in methods}) == len(methods)


def test_an_unknown_method_has_no_style():
    with pytest.raises(ValueError, match=r"'sgd'.*SGD"):
        figures.style("sgd")


def test_importing_figures_sets_plotlys_defaults():
    assert (pio.templates.default, pio.renderers.default) == ("nnlib", "nnlib")
    assert go.Figure().layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("name", ["", "Risk", "a b", "risk_1", "-a", 'a"b'])
def test_a_figures_name_can_be_an_id(name):
    with pytest.raises(ValueError, match="hyphens"):
        figures.describe(go.Figure(), name, alt="A test.")


def test_a_figure_needs_an_alt_text():
    with pytest.raises(ValueError, match="alt text"):
        figures.describe(go.Figure(), "risk", alt="  ")


def test_a_described_figure_shows_itself_to_jupyterlab_and_to_the_book():
    bundle = described(go.Figure(go.Scatter(y=[1, 2])))._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/html"}
    assert 'id="figure-test-figure"' in bundle["text/html"] and 'aria-label="A test."' in bundle["text/html"]


def test_an_undescribed_figure_says_so_on_the_page():
    # A reader's own plot still works in JupyterLab, but can't get into the book unnoticed.
    bundle = go.Figure()._repr_mimebundle_()
    assert "application/vnd.plotly.v1+json" in bundle
    assert "explorer-undescribed" in bundle["text/html"] and "describe" in bundle["text/html"]


def test_the_same_figure_gives_the_same_html():
    # A random id or an order of a set would make nbval and diffs fail.
    make = lambda: described(go.Figure(go.Scatter(y=np.arange(50.0))))._repr_mimebundle_()["text/html"]  # noqa: E731
    assert make() == make()


def test_words_cannot_break_out_of_the_html():
    evil = '</script><b>"&'
    output = figures.describe(go.Figure(go.Bar(x=[evil], y=[1])), "evil", alt=evil)._repr_mimebundle_()["text/html"]
    assert output.count("</script>") == 1 and "<b>" not in output
    payload = read(output)
    assert resolved(payload["figures"][0], payload["parts"])["data"][0]["x"] == [evil]
    assert html.unescape(re.search(r'aria-label="([^"]*)"', output).group(1)) == evil


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=100),
        10.0 ** np.linspace(-300, 300, 50),
        10.0 ** np.linspace(-30, 30, 50),
        np.array([1.0, np.nan, np.inf, -np.inf] * 10),
        2 ** np.arange(24),
        np.arange(12.0).reshape(3, 4) / 7,
        [1, 2.5, None],
        (0.1, 0.2),
    ],
    ids=["normal", "beyond single precision", "decades", "not finite", "powers of two", "matrix", "gap", "tuple"],
)
def test_data_survive_the_page_to_four_digits(values):
    # Breaks if an array is stored in too short floats, a gap becomes a number, or a batch size is rounded to 16,380.
    result = np.array(round_trip(values), dtype=float)
    expected = np.array(values, dtype=float)
    finite = np.isfinite(expected)
    np.testing.assert_allclose(result[finite], expected[finite], rtol=5.1e-4)
    assert np.isnan(result[~finite]).all()
    whole = finite & (expected == np.round(expected)) & (np.abs(expected) < 1e7)
    np.testing.assert_array_equal(result[whole], expected[whole])


def test_plotlys_own_coding_of_arrays_is_undone():
    # go.Figure.to_dict writes numpy arrays as base64 with a dtype and a shape.
    z = np.arange(6, dtype="int16").reshape(2, 3)
    figure = described(go.Figure(go.Heatmap(z=z, x=np.array([0.5, 1.5, 2.5]))))
    payload = read(figure._repr_mimebundle_()["text/html"])
    trace = resolved(payload["figures"][0], payload["parts"])["data"][0]
    assert trace["z"] == z.tolist() and trace["x"] == [0.5, 1.5, 2.5]


def test_equal_arrays_are_stored_once():
    x = np.linspace(0, 1, 100)
    pool = Pool()
    assert pool.share({"x": x, "first": "a long enough text"}) != pool.share(
        {"x": x.copy(), "first": "another long text"}
    )
    assert sum(isinstance(part, list) or "f4" in part for part in pool.parts) == 1


def test_a_plain_figures_table_holds_its_ends_and_at_most_twelve_points_a_trace():
    figure = go.Figure([go.Scatter(x=np.arange(1000), y=np.arange(1000) / 8, name="long"), go.Bar(y=[3.0])])
    figure.update_layout(xaxis_title="steps", yaxis_title="risk")
    table = data_table(figure.to_dict())
    assert table.count('<th scope="row">long</th>') == 12 and table.count('<th scope="row">bar 2</th>') == 1
    assert "<td>0</td>" in table and "<td>999</td><td>125</td>" in table
    assert '<th scope="col">steps</th><th scope="col">risk</th></tr>' in table


def test_stacked_panels_keep_their_order_and_do_not_overlap():
    figure = make_subplots(1, 3, subplot_titles=["a", "b", "c"])
    narrow = figures.stack(figure)
    domains = [narrow[f"yaxis{n}"]["domain"] for n in ("", 2, 3)]
    assert domains[0][1] == 1 and domains[2][0] == pytest.approx(0)
    assert all(lower[1] < upper[0] for upper, lower in itertools.pairwise(domains))
    assert [title["y"] for title in narrow["annotations"]] == [domain[1] for domain in domains]
    assert all(narrow[f"xaxis{n}"]["domain"] == [0, 1] for n in ("", 2, 3))
