"""What a part of the audit found."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEP_TIMEOUT_S = 300


class Verdict(StrEnum):
    PASSED = "no findings"
    WARNING = "warning"
    NOT_AUDITED = "not audited"
    FOUND = "findings"


@dataclass(frozen=True)
class Outcome:
    """`findings`: a line each; only those of the verdict FOUND fail the audit. `listing`: lines to read, whatever was found."""

    verdict: Verdict
    summary: str
    findings: tuple[str, ...] = ()
    listing: tuple[str, ...] = ()


class Unaudited(Exception):
    """A part could not be audited; the message says why, in one line."""


def read_answers() -> dict[str, Any]:
    """Return what pyproject.toml allows and answers."""
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["techmarket"])


def run_tool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of Python's in the repository. Raises Unaudited where it does not end in time."""
    try:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=STEP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        name = arguments[1] if arguments[0] == "-m" else arguments[0]
        raise Unaudited(f"{name} did not end within {STEP_TIMEOUT_S} s") from None


def read_json(result: "subprocess.CompletedProcess[str]", cause: str) -> Any:
    """Return the report on stdout. Raises Unaudited with `cause` where there is none."""
    try:
        return json.loads(result.stdout)
    except ValueError:
        raise Unaudited(cause) from None
