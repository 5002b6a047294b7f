"""Find a Chromium for the browser tests, or install one: ``python tools/browser.py`` prints its path."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)


def playwright_chromium() -> str | None:
    """The Chromium that playwright installed for itself, if there is one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def find() -> str | None:
    """An installed Chromium or Chrome, else playwright's own, else None. ``$BROWSER_PATH`` goes before all."""
    chosen = os.environ.get("BROWSER_PATH")
    if chosen and not Path(chosen).exists():
        raise FileNotFoundError(f"BROWSER_PATH names no file: {chosen}")
    found = chosen or next(filter(None, map(shutil.which, NAMES)), None)
    return found or next((path for path in APPLICATIONS if Path(path).exists()), None) or playwright_chromium()


def install() -> None:
    """Try playwright's download, then Debian's package where we are root; say nothing of the ones that fail."""
    attempts = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        install_package = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        attempts += [["apt-get", "update", "-qq"], install_package]
    for command in attempts:
        print("No browser found, trying:", " ".join(command), flush=True)
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if find():
            return


def main() -> None:
    """Print the browser's path, installing one first if need be; a clear message and exit code 1 if none can be had."""
    if find() is None:
        install()
    browser = find()
    if browser is None:
        sys.exit("The browser tests need Chromium or Chrome: install either, or set BROWSER_PATH to its executable.")
    print(f"Browser for the tests: {browser}")


if __name__ == "__main__":
    main()
