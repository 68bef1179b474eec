"""The locked requirements, as `make lock` writes them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

# name[extra]==version ; marker \, then hashes and what requires it on indented lines.
LOCKED = re.compile(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)(?: ; (.+?))? \\\n((?:    .*\n?)+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
REQUIRED_BY = re.compile(r"^    #(?: via)?\s+([\w.-]+)$", re.MULTILINE)
DIRECT = re.compile(r"^    #(?: via)?\s+-r ", re.MULTILINE)


@dataclass(frozen=True)
class Locked:
    """A package and its version. `hashes`: SHA-256 of its files; `is_direct`: requirements.in names it."""

    name: str
    version: str
    hashes: tuple[str, ...]
    required_by: tuple[str, ...]
    is_direct: bool


def read_lock(path: Path) -> list[Locked]:
    """Return the packages that this platform installs."""
    return [
        Locked(name, version, tuple(HASH.findall(rest)), tuple(REQUIRED_BY.findall(rest)), bool(DIRECT.search(rest)))
        for name, version, marker, rest in LOCKED.findall(path.read_text(encoding="utf-8"))
        if not marker or Marker(marker).evaluate()
    ]


def hash_file(path: Path) -> str:
    """Return the SHA-256 that `sha256sum` prints."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
