"""A browser that asks no foreign host and records what pages do; the built book and a demo page, served on loopback."""

import contextlib
import functools
import http.server
import importlib.util
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import plotly
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "_build" / "html"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

# The variables of the book's theme that explorer.css reads.
STYLE = """
html[data-theme=dark] { --pst-color-background: #121212; --pst-color-text-base: #ced6dd;
  --pst-color-text-muted: #9ca4af; --pst-color-border: #48566b; --pst-color-surface: #29313d;
  --pst-color-primary: #3fb1c5; }
body { background: var(--pst-color-background, #fff); color: var(--pst-color-text-base, #222832); }
"""


@dataclass
class Record:
    """What a page did that it should not have done."""

    foreign: list[str] = field(default_factory=list)  # requests to another host
    failed: list[str] = field(default_factory=list)  # local files that are not there
    errors: list[str] = field(default_factory=list)  # console errors and uncaught exceptions

    def assert_clean(self):
        assert self == Record()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(folder: Path):
    """The address of a folder served on a free port of this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def browser():
    """Chromium, found as `python tools/browser.py` finds it."""
    spec = importlib.util.spec_from_file_location("browser", ROOT / "tools" / "browser.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path = tool.find()
    assert path, "The browser tests need Chromium or Chrome: install either, or set BROWSER_PATH to its executable."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser):
    """``open_page(address, **context options) -> (page, record)``; the page is ready when its explorers are."""
    contexts = []

    def open_page(address: str, wait: bool = True, **options) -> tuple[Page, Record]:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        contexts.append(context)
        record, page = Record(), context.new_page()

        def route(route):
            local = route.request.url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:"))
            if not local:
                record.foreign.append(route.request.url)
            route.continue_() if local else route.abort()

        page.route("**/*", route)
        page.on("console", lambda message: message.type == "error" and record.errors.append(message.text))
        page.on("pageerror", lambda error: record.errors.append(str(error)))
        page.on("response", lambda answer: answer.status >= 400 and record.failed.append(answer.url))
        page.on("requestfailed", lambda request: record.failed.append(request.url))
        page.goto(address)
        if wait and options.get("java_script_enabled", True):
            ready = "() => !document.querySelector('figure.explorer:not([data-ready]), form.quiz:not([data-ready])')"
            page.wait_for_function(ready, timeout=20_000)
        return page, record

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the built book."""
    assert (BOOK / "index.html").exists(), "The book is not built: run `make book` (or `python tools/site.py`) first."
    return BOOK


@pytest.fixture(scope="session")
def demo_page(tmp_path_factory) -> Path:
    """A page made of the demo's figures and the book's own assets, without the book."""
    import demo

    from tenpapers.page.explorer import Control, explore
    from tenpapers.page.quiz import Quiz

    folder = tmp_path_factory.mktemp("demo")
    for name in ("explorer.js", "explorer.css", "quiz.js"):
        shutil.copy(ROOT / "assets" / name, folder)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", folder)
    waves = explore(
        demo.waves,
        frequency=Control([0.5, 1, 2, 4], "frequency", "Hz", start=2),
        shape=["sine", "square"],
        damped=[False, True],
    )
    choices = [
        {"text": "Yes", "correct": True, "why": "Indeed."},
        {"text": "No", "correct": False, "why": "Look again."},
    ]
    quiz = Quiz("demo", [{"question": "Does it work?", "choices": choices}])
    parts = [
        waves.html,
        explore(demo.panels, power=range(5)).html,
        demo.plain()._repr_mimebundle_()["text/html"],
        quiz._repr_html_(),
    ]
    (folder / "index.html").write_text(
        '<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>Demo</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style>"
        '<link rel="stylesheet" href="explorer.css"><script src="explorer.js"></script><script src="quiz.js"></script>'
        f"</head><body><main><h1>Demo</h1>{''.join(parts)}</main></body></html>",
        encoding="utf-8",
    )
    return folder
