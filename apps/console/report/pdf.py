"""A page as a PDF, by a Chromium without a window."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from django.conf import settings

from techmarket.errors import EtlError, Misconfigured

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 120  # seconds
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--no-pdf-header-footer",
)


def printed(page: str) -> bytes:
    """Raises Misconfigured where there is no Chromium, EtlError where it prints nothing."""
    program = browser()
    with tempfile.TemporaryDirectory(prefix="techmarket-report-") as folder:
        source, target = Path(folder, "report.html"), Path(folder, "report.pdf")
        source.write_text(page, encoding="utf-8")
        # Chromium refuses its sandbox to root, who in a container has one already.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [program, *FLAGS, *sandbox, f"--user-data-dir={folder}/profile", f"--print-to-pdf={target}", source.as_uri()]
        try:
            said = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE).stderr  # noqa: S603
        except OSError as error:
            raise Misconfigured(f"{program} cannot be started: {error.strerror}. Set CHROMIUM to a Chromium that can.") from None
        except subprocess.TimeoutExpired:
            raise EtlError(f"{program} did not print the report within {PATIENCE} seconds.") from None
        if not target.is_file():
            raise EtlError(f"{program} printed nothing: {last_line(said)}")
        return target.read_bytes()


def browser() -> str:
    found = [settings.CHROMIUM] if settings.CHROMIUM else list(filter(None, map(shutil.which, NAMES)))
    if not found:
        raise Misconfigured(
            "There is no Chromium here, which makes the PDF. Install Debian's package chromium, set CHROMIUM, or leave out --pdf."
        )
    return found[0]


def last_line(said: str) -> str:
    return (said.strip().splitlines() or ["it says nothing"])[-1]
