"""The explorer's other life: JupyterLab runs a notebook, a slider is moved by keyboard, and the figure changes."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import demo
import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CODE = """\
import sys

sys.path.insert(0, {folder!r})
import demo
from tenpapers.page.explorer import Control, explore

frequency = Control([0.5, 1, 2, 4], "frequency", "Hz", start=2)
explore(demo.waves, frequency=frequency, shape=["sine", "square"], damped=[False, True])
"""
PLOTTED = """() => {
  const plot = document.querySelector(".js-plotly-plot");
  const trace = plot && plot._fullData && plot._fullData[0]; // none while the traces are being exchanged
  return trace ? Array.from(trace.y) : null;
}"""


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a free port of this machine, with one notebook and settings of its own; its address."""
    code = CODE.format(folder=str(Path(__file__).parent))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata=kernel)
    nbformat.write(notebook, tmp_path / "demo.ipynb")
    log = tmp_path / "log.txt"
    folders = {
        name: str(tmp_path / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--IdentityProvider.token=", f"--notebook-dir={tmp_path}"],
            env=os.environ | folders | {"PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        found = None
        while not found and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.3)
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        assert found, f"JupyterLab did not start:\n{log.read_text()}"
        urllib.request.urlopen(f"{found.group(0)}/api/status", timeout=30).close()
        yield found.group(0)
    finally:
        process.terminate()
        process.wait(20)


def test_a_slider_moved_in_jupyterlab_changes_the_figure(lab, open_page):
    page, record = open_page(f"{lab}/lab/tree/demo.ipynb")
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile(r"^Run All( Cells)?$")).click()
    page.wait_for_function(f"() => ({PLOTTED})() !== null", timeout=90_000)

    def shown():
        return np.array([np.nan if value is None else value for value in page.evaluate(PLOTTED) or []], dtype=float)

    def agrees(wave, expected):
        return len(wave) == len(expected) and np.allclose(wave, expected, equal_nan=True)

    def wait_for(**values):
        expected = demo.waves(**values)
        deadline = time.monotonic() + 20
        while not agrees(wave := shown(), expected.data[0].y) and time.monotonic() < deadline:
            page.wait_for_timeout(100)
        np.testing.assert_allclose(wave, expected.data[0].y)
        page.get_by_text(expected.layout.meta["summary"]).wait_for(timeout=10_000)  # its message follows the figure's

    wait_for(frequency=2, shape="sine", damped=False)
    slider = page.get_by_role("slider").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    wait_for(frequency=4, shape="sine", damped=False)
    page.get_by_role("button", name="square", exact=True).click()
    wait_for(frequency=4, shape="square", damped=False)
    page.get_by_role("button", name="yes", exact=True).click()  # one curve more
    wait_for(frequency=4, shape="square", damped=True)
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_for(frequency=2, shape="sine", damped=False)
    if folder := os.environ.get("NNLIB_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/lab.png")
    assert record.foreign == []
