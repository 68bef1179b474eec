"""Start the installed Chromium with Playwright, without Playwright's own download."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.servers import need, program

# Runs as root in containers, without background traffic or first-run pages.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
)


def find_chromium() -> Path | None:
    configured = os.environ.get("CHROMIUM", "").strip()
    return Path(configured) if configured else program("chromium") or program("chromium-browser") or program("google-chrome")


def find_headless_chromium() -> Path | None:
    """Return the headless shell where it is installed, else Chromium: without windows and toolbars it takes half of the time."""
    return program("chromium-headless-shell") or find_chromium()


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Start a browser. Raise tests.servers.Unavailable if there is none and none can be installed."""
    path = need(find_headless_chromium, "Chromium", "CHROMIUM", "chromium", "chromium-headless-shell")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield started
        finally:
            started.close()
