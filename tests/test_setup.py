"""The first commands of a new developer and of CI."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

UNAVAILABLE = 4


def run(*command: str, **env: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=300)


def test_make_without_target_lists_every_target() -> None:
    result = run("make", "--no-print-directory", MAKEFLAGS="", MAKELEVEL="")
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony and result.returncode == 0, result.stderr
    assert [line.split()[1] for line in result.stdout.splitlines()] == phony[1].split()


def test_setup_reports_a_missing_python(tmp_path: Path) -> None:
    """A pyenv shim exists and fails to run."""
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    result = run("sh", "deploy/setup.sh", PYTHON=str(shim), VENV=str(tmp_path / "venv"))
    assert result.returncode == 1
    assert result.stderr.startswith("setup: no Python 3.12 or newer that runs") and result.stderr.count("\n") == 1
    assert not (tmp_path / "venv").exists()


def test_setup_refuses_unknown_arguments() -> None:
    result = run("sh", "deploy/setup.sh", "everything")
    assert (result.returncode, result.stderr) == (2, "usage: deploy/setup.sh [dev]\n")


@pytest.mark.parametrize("arguments", [[], ["true"], ["--"]])
def test_servers_require_a_command(arguments: list[str]) -> None:
    assert run(sys.executable, "tests/servers.py", *arguments).returncode == 2


def test_unreachable_server_is_a_failure() -> None:
    result = run(sys.executable, "tests/servers.py", "--", "true", TEST_MYSQL_URL="mysql://test:canary@127.0.0.1:1/")
    assert result.returncode == UNAVAILABLE
    assert "NOT TESTED ON SERVERS" in result.stderr and "TEST_MYSQL_URL" in result.stderr
    assert "canary" not in result.stderr + result.stdout
