"""Version of the package and of the code: what the commands, the runs and the backups record."""

import os
import subprocess
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GIT_TIMEOUT_S = 5


@cache
def package_version() -> str:
    """Return the version in pyproject.toml, such as "0.1.0"."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return version


@cache
def code_version() -> str:
    """Return the commit of the code: 12 digits, with "-dirty" where the checkout has changes; empty where it is unknown.

    An image has no git: its build sets CODE_VERSION.
    """
    return os.environ.get("CODE_VERSION", "")[:40] or read_git_commit(ROOT)


def read_git_commit(checkout: Path) -> str:
    """Ask git for the commit of `checkout`; return "" without git or where the folder is no checkout."""
    if not (checkout / ".git").exists():  # git would answer for a repository that the folder lies in
        return ""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        result = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
