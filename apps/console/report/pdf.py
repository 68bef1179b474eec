"""Prints a page to PDF with headless Chromium."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from django.conf import settings

from techmarket.errors import EtlError, Misconfigured

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PRINT_TIMEOUT_S = 120
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--no-pdf-header-footer",
)


def print_to_pdf(page: str) -> bytes:
    """Return the page as a PDF. Raises Misconfigured where Chromium is missing, EtlError where it writes no file."""
    program = find_browser()
    with tempfile.TemporaryDirectory(prefix="techmarket-report-") as folder:
        source, target = Path(folder, "report.html"), Path(folder, "report.pdf")
        source.write_text(page, encoding="utf-8")
        # Chromium refuses to start its sandbox as root; a container is a sandbox already.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [program, *FLAGS, *sandbox, f"--user-data-dir={folder}/profile", f"--print-to-pdf={target}", source.as_uri()]
        try:
            output = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PRINT_TIMEOUT_S).stderr  # noqa: S603
        except OSError as error:
            raise Misconfigured(f"{program} cannot be started: {error.strerror}. Set CHROMIUM to the path of Chromium.") from None
        except subprocess.TimeoutExpired:
            raise EtlError(f"{program} did not print the report within {PRINT_TIMEOUT_S} seconds.") from None
        if not target.is_file():
            raise EtlError(f"{program} wrote no PDF: {last_line(output)}. Set CHROMIUM to the path of a Chromium that can print.")
        return target.read_bytes()


def find_browser() -> str:
    found = [settings.CHROMIUM] if settings.CHROMIUM else list(filter(None, map(shutil.which, PROGRAMS)))
    if not found:
        raise Misconfigured("A PDF needs Chromium, which is not installed. Install Debian's package chromium, set CHROMIUM, or omit --pdf.")
    return found[0]


def last_line(output: str) -> str:
    return (output.strip().splitlines() or ["no error output"])[-1].rstrip(".")
