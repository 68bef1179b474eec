"""The release, written once: in pyproject.toml."""

import tomllib
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


@cache
def read_version() -> str:
    """Return the version of this release, such as 0.1.0."""
    # Not from the metadata of a package: TechMarket runs from its folder and is not installed.
    return str(tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"])
