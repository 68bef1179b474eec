"""The project's documents: their links, headings, fenced blocks and words in backticks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.conftest import ROOT

DOCUMENTS = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / "docs/decisions") for path in folder.glob("*.md"))
TWINS = [path for path in DOCUMENTS if path.name.endswith(".uk.md")]  # the Ukrainian of a document: the same but for its sentences
ORIGINALS = [path for path in DOCUMENTS if path not in TWINS]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELLS = ("", "sh")  # what a block is of where it holds command lines; others say text, sql, crontab


@dataclass(frozen=True)
class Command:
    """What a reader would type: a line, or several that belong together."""

    document: Path
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {self.text}"


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def blocks(path: Path) -> list[str]:
    """Its fenced blocks, each whole: fences, language, indentation and comments too."""
    return [found.group(0) for found in FENCE.finditer(path.read_text(encoding="utf-8"))]


def headings(path: Path) -> list[int]:
    """The level of each, in their order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(path), re.MULTILINE)]


def rows(path: Path) -> list[int]:
    """The cells of each row of its tables, in their order."""
    unquoted = re.sub(r"`[^`\n]*`", "", prose(path))
    return [line.count("|") - 1 for line in unquoted.splitlines() if line.startswith("|")]


def links(path: Path) -> list[str]:
    """Where its links and pictures lead, without those to the web."""
    words = re.sub(r"`[^`\n]*`", "", prose(path))
    found = re.findall(r"\]\(([^)\s]+)\)", words) + re.findall(r'(?:src|href)="([^"]+)"', words)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def quoted(path: Path) -> list[str]:
    """Its words in backticks."""
    return re.findall(r"`([^`\n]+)`", prose(path))


def commands(path: Path) -> Iterator[Command]:
    """Of its fenced blocks: the lines after a `$`, or all of a block that has none and draws nothing."""
    for language, block in FENCE.findall(path.read_text(encoding="utf-8")):
        if language not in SHELLS or (re.search("[─│┌]", re.sub(r"^\$ .*$", "", block, flags=re.MULTILINE)) and "$ " not in block):
            continue
        typed = re.findall(r"^\$ (.+)$", block, re.MULTILINE) or whole(dedent(block))
        yield from (Command(path, re.sub(r"\s+# .*$", "", line)) for line in typed)


def whole(block: str) -> list[str]:
    """Its commands: a loop, a pipe or a line that goes on is one."""
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
