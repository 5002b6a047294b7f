"""Build the book: ``python tools/site.py [--open]`` writes ``_build/html`` and prints the address of its first page."""

import argparse
import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST_PAGE = ROOT / "_build" / "html" / "index.html"


def build() -> None:
    """Run Jupyter Book with every warning an error (``-n``: links that lead nowhere too); exit if it fails."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [str(jupyter_book), "build", str(ROOT), "-n", "-W", "--keep-going", "-q"]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    if result.returncode or not FIRST_PAGE.exists():
        shutil.rmtree(ROOT / "_build" / ".doctrees", ignore_errors=True)  # or the next build would not warn again
        sys.exit(f"The book was not built (exit code {result.returncode}): see the first warning above.")


def main() -> None:
    """Build, say where the book is, and open it where there is a display and ``--open`` was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--open", action="store_true", help="open the first page in a browser if there is a display")
    arguments = parser.parse_args()
    build()
    print(f"The book is ready: {FIRST_PAGE.as_uri()}")
    has_display = sys.platform in ("win32", "darwin") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if arguments.open and has_display and "CI" not in os.environ:
        webbrowser.open(FIRST_PAGE.as_uri())


if __name__ == "__main__":
    main()
