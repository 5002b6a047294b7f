"""Every page of the built book in a browser: offline, no errors, accessible, on a phone; every explorer by keyboard."""

import json

import checks
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import BOOK, serve

PAGES = sorted(str(path.relative_to(BOOK)) for path in BOOK.rglob("*.html") if "_static" not in path.parts)
CONTENT = [  # without listings of source code and redirections
    page
    for page in PAGES
    if not page.startswith("_modules") and 'http-equiv="refresh"' not in (BOOK / page).read_text()
]

# The rules that we don't hold pages to, why, and a page that breaks each.
ALLOWED = {
    # docutils' own markup of a bibliography; the newer ARIA only advises against the role, and screen readers know it.
    "aria-deprecated-role": "book/references.html",
    # Sphinx puts an empty anchor before that list's first entry.
    "aria-required-children": "book/references.html",
}
AXE = {
    "preload": False,
    "runOnly": ["wcag2a", "wcag2aa", "wcag21aa"],
    "rules": {rule: {"enabled": False} for rule in ALLOWED},
}


@pytest.fixture(scope="module")
def address(book):
    with serve(book) as address:
        yield address


def test_the_book_has_pages_and_explorers(book):
    # Without it an empty build would pass every parametrised test below.
    assert "index.html" in PAGES and any(page.startswith("book/") for page in PAGES)
    assert any("data-function=" in (book / page).read_text() for page in PAGES)


@pytest.mark.parametrize("name", CONTENT)
def test_a_page_is_offline_and_free_of_errors_in_both_themes_and_on_a_phone(open_page, address, name):
    page, record = open_page(f"{address}/{name}")
    assert page.locator(".explorer-undescribed").count() == 0
    ids = page.evaluate("[...document.querySelectorAll('figure.explorer, form.quiz')].map((e) => e.id)")
    assert len(set(ids)) == len(ids), "two figures of a page share a name"
    for theme in ("light", "dark"):
        page.evaluate(
            "(t) => { document.documentElement.dataset.theme = document.documentElement.dataset.mode = t; }", theme
        )
        page.wait_for_timeout(300)  # colour transitions
        found = Axe().run(page, options=AXE).response["violations"]
        assert [(v["id"], [node["html"][:200] for node in v["nodes"]][:5]) for v in found] == [], theme
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360, "the page scrolls sideways at 360 px"
    record.assert_clean()


@pytest.mark.parametrize("name", [page for page in PAGES if page not in CONTENT])
def test_a_listing_is_offline_and_free_of_errors(open_page, address, name):
    open_page(f"{address}/{name}")[1].assert_clean()


def with_explorers() -> list[str]:
    return [page for page in PAGES if "data-function=" in (BOOK / page).read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", with_explorers())
def test_every_explorer_moved_by_keyboard_shows_what_python_computes(open_page, address, name):
    page, record = open_page(f"{address}/{name}")
    explorers = checks.explorers(page)
    assert explorers
    for explorer in explorers:
        for positions in checks.move_by_keyboard(explorer):
            checks.assert_agrees(explorer, positions)
    record.assert_clean()


@pytest.mark.parametrize("name", with_explorers())
def test_explorers_work_from_a_file_too(open_page, book, name):
    page, record = open_page((book / name).as_uri())
    for explorer in checks.explorers(page):
        checks.assert_agrees(explorer, next(checks.move_by_keyboard(explorer)))
    record.assert_clean()


@pytest.mark.parametrize(
    "name", [page for page in PAGES if 'class="quiz"' in (BOOK / page).read_text(encoding="utf-8")]
)
def test_every_quiz_is_answered_by_keyboard(open_page, address, name):
    page, _ = open_page(f"{address}/{name}")
    for question in page.locator("form.quiz fieldset").all():
        buttons = question.get_by_role("radio")
        buttons.first.focus()
        for i in range(buttons.count()):
            page.keyboard.press("Space" if i == 0 else "ArrowDown")
            assert buttons.nth(i).is_checked()
            question.get_by_role("button", name="Check").press("Enter")
            correct = buttons.nth(i).get_attribute("data-correct") == "true"
            feedback = question.locator(".quiz-feedback").text_content()
            assert feedback == f"{'Right.' if correct else 'Not this one.'} {buttons.nth(i).get_attribute('data-why')}"
            buttons.nth(i).focus()


def test_the_payloads_name_every_control(book):
    # A control that the page's JSON does not know would move nothing.
    for name in with_explorers():
        for figure in (book / name).read_text(encoding="utf-8").split('<figure class="explorer"')[1:]:
            text = figure.split('<script type="application/json">')[1].split("</script>")[0]
            assert all(f'name="{control["name"]}"' in figure for control in json.loads(text)["controls"])


@pytest.mark.parametrize("rule", ALLOWED)
def test_an_allowed_fault_still_exists(open_page, address, rule):
    # An allowance that nothing needs any more must leave the list.
    page, _ = open_page(f"{address}/{ALLOWED[rule]}")
    found = Axe().run(page, options={"preload": False, "runOnly": [rule]}).response["violations"]
    assert [violation["id"] for violation in found] == [rule]
