"""Debian's Chromium, driven by Playwright, whose own download is not needed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.servers import need, program

# It runs as root in containers, talks to nobody but us, and leaves no trace of its own housekeeping.
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
    given = os.environ.get("CHROMIUM", "").strip()
    return Path(given) if given else program("chromium") or program("chromium-browser") or program("google-chrome")


def find_headless_chromium() -> Path | None:
    """Return Chromium without its windows and toolbars, which take half of the time, where there is one."""
    return program("chromium-headless-shell") or find_chromium()


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Raises tests.servers.Unavailable where there is none and none can be installed."""
    path = need(find_headless_chromium, "Chromium", "CHROMIUM", "chromium", "chromium-headless-shell")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield started
        finally:
            started.close()
