"""What several tests need."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.servers import Unavailable, need, program

ROOT = Path(__file__).resolve().parent.parent
# What a process needs that has nothing to do with TechMarket.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "COVERAGE_FILE", "COVERAGE_PROCESS_CONFIG")


def needed(name: str, *packages: str) -> Path:
    """A program of other people that a test asks: from Debian's packages where root may install them, else the test is skipped."""
    try:
        return need(lambda: program(name), name, "PATH", *packages)
    except Unavailable as error:
        pytest.skip(str(error))


class Cli(Protocol):
    def __call__(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]": ...


@pytest.fixture
def run_cli(tmp_path: Path) -> Cli:
    """Runs `manage.py` as a process of its own that knows only `env`; without addresses there its databases are new SQLite files."""

    def run(
        *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return subprocess.run(
            [sys.executable, str(ROOT / "manage.py"), *args],
            env=passed_on | {"VAR_DIR": str(tmp_path), "ENV_FILE": os.devnull} | dict(env or {}),
            cwd=cwd or ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
        )

    return run
