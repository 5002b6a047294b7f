"""``explorer.js`` and ``quiz.js`` on a small page of their own: fast, and independent of what the book holds."""

import re

import checks
import demo
import plotly.graph_objects as go
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import serve

AXE = {"preload": False, "runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]}


@pytest.fixture(scope="module")
def address(demo_page):
    with serve(demo_page) as address:
        yield address


def color(page, selector: str, prop: str) -> str:
    return page.locator(selector).first.evaluate("(e, prop) => getComputedStyle(e)[prop]", prop)


@pytest.mark.parametrize("protocol", ["http", "file"])
def test_every_move_by_keyboard_shows_what_python_computes(open_page, demo_page, address, protocol):
    # Breaks with a wrong stride, a lost curve, a rounding error, an ES module (which file:// refuses).
    page, record = open_page(address if protocol == "http" else (demo_page / "index.html").as_uri())
    for explorer in checks.explorers(page):
        moves = 0
        for positions in checks.move_by_keyboard(explorer):
            checks.assert_agrees(explorer, positions)
            moves += 1
        assert moves >= 4
    record.assert_clean()


def test_the_comparison_sees_a_wrong_number(open_page, demo_page):
    # The negative control: one value of the page changed by one per cent.
    page, _ = open_page((demo_page / "index.html").as_uri())
    explorer = checks.explorers(page)[0]
    checks.assert_agrees(explorer, [2, 0, 0])
    explorer.evaluate("(e) => { e.querySelector('.explorer-plot').data[0].y[7] *= 1.01; }")
    with pytest.raises(AssertionError, match=r"y\[7\]: the page shows"):
        checks.assert_agrees(explorer, [2, 0, 0])


def test_a_slider_says_its_value_and_its_key_number(open_page, address):
    page, _ = open_page(address)
    slider = page.get_by_label("frequency")
    slider.press("End")
    assert slider.get_attribute("aria-valuetext") == "4 Hz"
    assert page.locator("#figure-demo-waves output").text_content() == "4 Hz"
    summary = page.locator("#figure-demo-waves .explorer-summary")
    assert summary.get_attribute("aria-live") == "polite"
    checks.assert_agrees(checks.explorers(page)[0], [3, 0, 0])
    assert summary.text_content() == demo.waves(4, "sine", False).layout.meta["summary"]


def test_reset_returns_to_the_start(open_page, address):
    page, _ = open_page(address)
    explorer = checks.explorers(page)[0]
    for positions in checks.move_by_keyboard(explorer):
        checks.assert_agrees(explorer, positions)
    explorer.get_by_role("button", name="Reset").press("Enter")
    checks.assert_agrees(explorer, [2, 0, 0])
    assert explorer.locator("output").text_content() == "2 Hz"


def test_the_figure_follows_the_theme_at_once(open_page, address):
    page, _ = open_page(address)
    light = color(page, "#figure-demo-waves .xtick text", "fill")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(
        "(light) => getComputedStyle(document.querySelector('.xtick text')).fill !== light", arg=light, timeout=2000
    )
    assert color(page, "#figure-demo-waves .xtick text", "fill") == "rgb(206, 214, 221)"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(open_page, address, theme):
    page, _ = open_page(address)
    page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    page.wait_for_timeout(300)  # colour transitions
    page.locator("details.explorer-words").evaluate_all("(all) => all.forEach((e) => { e.open = true; })")
    found = Axe().run(page, options=AXE).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []


def test_on_a_phone_panels_stack_the_legend_is_below_and_nothing_sticks_out(open_page, address):
    page, _ = open_page(address, viewport={"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    first, second = (page.locator(f"#figure-demo-panels .overplot > .{name}").bounding_box() for name in ("xy", "x2y2"))
    assert first["y"] + first["height"] < second["y"] and abs(first["x"] - second["x"]) < 20
    assert page.locator("#figure-demo-panels .legend").bounding_box()["y"] > second["y"] + second["height"]


def test_a_resized_window_redraws_the_figure(open_page, address):
    page, _ = open_page(address)
    page.set_viewport_size({"width": 360, "height": 700})
    page.wait_for_function("document.querySelector('#figure-demo-waves .main-svg').clientWidth < 360", timeout=2000)
    page.set_viewport_size({"width": 1000, "height": 700})
    page.wait_for_function("document.querySelector('#figure-demo-waves .main-svg').clientWidth > 800", timeout=2000)


def test_without_scripts_the_page_has_description_and_table_and_no_dead_control(open_page, address):
    page, _ = open_page(address, java_script_enabled=False)
    explorer = page.locator("#figure-demo-waves")
    assert not explorer.locator("form").is_visible()
    assert explorer.get_by_text("needs the book").is_visible()
    assert explorer.get_by_text("it stays within a bound").is_visible()
    assert explorer.locator("tbody tr").count() == 16 and explorer.locator("tbody tr").first.is_visible()
    answer = page.locator("form.quiz summary")
    answer.press("Enter")
    assert page.get_by_text("Indeed.").is_visible()


def test_with_scripts_the_table_is_folded_away_until_asked_for(open_page, address):
    page, _ = open_page(address)
    explorer = page.locator("#figure-demo-waves")
    assert not explorer.get_by_text("needs the book").is_visible()
    assert not explorer.locator("table").is_visible()
    explorer.locator("summary").press("Enter")
    assert explorer.locator("table").is_visible()


def test_print_shows_the_table_and_dark_text_whatever_the_theme(open_page, address):
    page, _ = open_page(address)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print")
    assert page.locator("#figure-demo-waves table").is_visible()
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.xtick text')).fill === 'rgb(34, 40, 50)'", timeout=2000
    )


def test_outside_the_book_the_figure_says_what_it_needs(open_page, tmp_path):
    # A viewer that runs scripts but has no explorer.js.
    (tmp_path / "index.html").write_text(f"<html><body>{demo.plain()._repr_mimebundle_()['text/html']}</body></html>")
    page, _ = open_page((tmp_path / "index.html").as_uri(), java_script_enabled=False)
    assert page.get_by_text("needs the book (with scripts) or a running kernel").is_visible()
    assert page.locator("table").is_visible()


def test_a_missing_plotly_leaves_the_words(open_page, demo_page, tmp_path):
    for name in ("index.html", "explorer.js", "explorer.css", "quiz.js"):
        (tmp_path / name).write_bytes((demo_page / name).read_bytes())
    page, record = open_page((tmp_path / "index.html").as_uri(), wait=False)
    page.wait_for_selector("figure.explorer[data-failed]", timeout=5000)
    assert page.locator("#figure-demo-waves table").is_visible()
    assert page.locator("#figure-demo-waves").get_by_text("needs the book").is_visible()
    assert any("plotly" in error for error in record.errors)


def test_a_page_without_figures_does_not_load_plotly(open_page, demo_page, tmp_path):
    text = (demo_page / "index.html").read_text()
    (tmp_path / "index.html").write_text(re.sub(r"<figure.*</figure>", "", text, flags=re.S))
    for name in ("explorer.js", "explorer.css", "quiz.js"):
        (tmp_path / name).write_bytes((demo_page / name).read_bytes())
    page, record = open_page((tmp_path / "index.html").as_uri())
    assert page.evaluate("window.Plotly") is None
    record.assert_clean()


def test_a_quiz_is_answered_by_keyboard(open_page, address):
    page, _ = open_page(address)
    feedback = page.locator(".quiz-feedback")
    page.get_by_role("button", name="Check").press("Enter")
    assert feedback.text_content() == "Choose an answer first."
    page.get_by_role("radio", name="Yes", exact=True).focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("radio", name="No", exact=True).is_checked() and feedback.text_content() == ""
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert feedback.text_content() == "Not this one. Look again."
    page.get_by_role("radio", name="Yes", exact=True).press("Space")
    page.get_by_role("button", name="Check").press("Enter")
    assert feedback.text_content() == "Right. Indeed." and feedback.get_attribute("role") == "status"
    assert not page.locator("form.quiz details").is_visible()


def test_figures_of_the_same_function_are_equal():
    # The comparison calls the functions again, so they must be pure.
    assert isinstance(demo.waves(1, "sine", True), go.Figure)
    assert demo.waves(1, "sine", True) == demo.waves(1, "sine", True)
