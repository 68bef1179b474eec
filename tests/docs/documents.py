"""Parse the project's documents: links, headings, fenced blocks and quoted code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.conftest import ROOT

DOCUMENTS = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / "docs/decisions") for path in folder.glob("*.md"))
TWINS = [path for path in DOCUMENTS if path.name.endswith(".uk.md")]  # Ukrainian translations, with the same structure
ORIGINALS = [path for path in DOCUMENTS if path not in TWINS]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELLS = ("", "sh")  # languages of blocks with command lines; others are text, sql, crontab


@dataclass(frozen=True)
class Command:
    """A command that a reader would type, of one or several lines."""

    document: Path
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {self.text}"


@dataclass(frozen=True)
class Sample:
    """A command and the output that the document prints below it: none if the document leaves it out."""

    command: Command
    output: tuple[str, ...]


def read_prose(path: Path) -> str:
    """Return the document without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def find_blocks(path: Path) -> list[str]:
    """Return the fenced blocks, with fences, language, indentation and comments."""
    return [found.group(0) for found in FENCE.finditer(path.read_text(encoding="utf-8"))]


def find_heading_levels(path: Path) -> list[int]:
    """Return the levels of the headings, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", read_prose(path), re.MULTILINE)]


def count_cells(path: Path) -> list[int]:
    """Return the number of cells of each table row, in order."""
    unquoted = re.sub(r"`[^`\n]*`", "", read_prose(path))
    return [line.count("|") - 1 for line in unquoted.splitlines() if line.startswith("|")]


def find_links(path: Path) -> list[str]:
    """Return the targets of links and pictures, without URLs."""
    unquoted = re.sub(r"`[^`\n]*`", "", read_prose(path))
    found = re.findall(r"\]\(([^)\s]+)\)", unquoted) + re.findall(r'(?:src|href)="([^"]+)"', unquoted)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def find_anchors(path: Path) -> set[str]:
    """Return the anchors of the headings, in GitHub's form."""
    titles = re.findall(r"^#+ (.+)$", read_prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def find_quoted(path: Path) -> list[str]:
    """Return the texts in backticks."""
    return re.findall(r"`([^`\n]+)`", read_prose(path))


def find_commands(path: Path) -> Iterator[Command]:
    """Yield the commands of the fenced blocks: lines after a `$`, or all lines of a block without `$` and without drawings."""
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language not in SHELLS or (re.search("[─│┌]", re.sub(r"^\$ .*$", "", block, flags=re.MULTILINE)) and "$ " not in block):
            continue
        typed = re.findall(r"^\$ (.+)$", block, re.MULTILINE) or split_commands(dedent(block))
        yield from (Command(path, re.sub(r"\s+# .*$", "", line)) for line in typed)


def find_samples(path: Path) -> list[Sample]:
    """Return the commands after a `$` in the document's order, each with the output that is printed below it, if any."""
    samples = []
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language in SHELLS:
            for part in re.split(r"^\$ ", dedent(block), flags=re.MULTILINE)[1:]:
                command, *output = part.splitlines()
                samples.append(Sample(Command(path, re.sub(r"\s+# .*$", "", command)), tuple(output)))
    return samples


def split_commands(block: str) -> list[str]:
    """Split a block into commands. A loop, a pipe and a continued line are one command."""
    parts: list[str] = []
    depth, open_ended = 0, False
    for line in block.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if depth or open_ended:
            parts[-1] += "\n" + line
        else:
            parts.append(line)
        depth += len(re.findall(r"(?:^|;\s*)(?:for|while|if|case)\b", line)) - len(re.findall(r"(?:^|;\s*)(?:done|fi|esac)\b", line))
        open_ended = line.rstrip().endswith(("\\", "|", "&&"))
    return parts
