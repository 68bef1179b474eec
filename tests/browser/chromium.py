"""Debian's Chromium, driven by Playwright, whose own download is not needed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.servers import need, program

# As root in a container, without requests to hosts of its own, and with the same rendering on every machine.
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
    """Return headless Chromium if it is installed: without windows and toolbars a test takes half of the time."""
    return program("chromium-headless-shell") or find_chromium()


@contextmanager
def launch_browser() -> Iterator[Browser]:
    """Start Chromium and close it at the end. Raises tests.servers.Unavailable where it is missing and cannot be installed."""
    path = need(find_headless_chromium, "Chromium", "CHROMIUM", "chromium", "chromium-headless-shell")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield started
        finally:
            started.close()
