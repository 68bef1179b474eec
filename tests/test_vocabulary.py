"""The vocabulary of code, pages and documents: words that gave way to the field's own do not come back."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Folders in which a member is a row of a dimension, not a process.
DIMENSION_FOLDERS = ("apps/etl/", "apps/warehouse/", "tests/bench/", "tests/etl/", "tests/oracle.py")

# In names, texts, comments and documents alike.
BANNED = re.compile(
    r"(?<![a-z])(?:"
    r"crews?|asking|bury|buried|told|said|blames?|business days?|first page|came to nothing|needs? a look|due instants?|take back"
    r"|keep promises|goes on where|carr(?:y|ies) it out|operator's word|to blame|heard of"
    r")(?![a-z])",
    re.IGNORECASE,
)
# In names alone: in prose these are plain words (rows kept for a year, a member of a dimension, HTTP POST).
BANNED_NAMES = re.compile(
    r"(?<![a-z])(?:asked|kept|noted|sentences?|members?|strips?|books|ground|paper|post|sound)(?![a-z])|^test .*\bstar\b", re.IGNORECASE
)
BANNED_UKRAINIAN = re.compile(
    r"(?<!\w)(?:"
    r"вилуч\w+|виторг\w*|виконав(?:ець|ц\w+)|приростовий не вдалося|момент\w* розкладу|межа завантаженого|позначк\w+ рівня"
    r"|крамниц\w+|відсіян\w*|парті[ія]\w*|зріз\w*|стан розкладів|запуск\w* виконують виконавці|завантажити ці|заповнити дні"
    r")(?!\w)",
    re.IGNORECASE,
)
# Other people's names: of str, of HTTP clients, of Django's signals, and of a dimension's rows.
ALLOWED_NAMES = re.compile(r"post (?:migrate|init|save|delete)|do post|(?:unknown|inferred|special|dimension) members?", re.IGNORECASE)
ALLOWED_ATTRIBUTES = {"strip", "post", "POST"}
SUFFIXES = {".py", ".html", ".css", ".po", ".md", ".txt", ".toml"}
SCANNED = ("apps", "techmarket", "templates", "tests", "docs")
NAME_TOKENS = (tokenize.NAME,)
PROSE_TOKENS = (tokenize.COMMENT, tokenize.STRING, tokenize.FSTRING_MIDDLE)


def find_words(text: str, is_python: bool = False) -> list[str]:
    """Return the banned words of a text, and of the names in it where it is Python."""
    names, prose = split_python(text) if is_python else ([], [text])
    spaced = [split_name(name) for name in names]
    return [
        match.group()
        for pattern, parts in (
            (BANNED, [*spaced, *prose]),
            (BANNED_NAMES, [ALLOWED_NAMES.sub("", name) for name in spaced]),
            (BANNED_UKRAINIAN, prose),
        )
        for part in parts
        for match in pattern.finditer(part)
    ]


def split_python(text: str) -> tuple[list[str], list[str]]:
    """Return the names, without attributes of other people's classes, and the comments and strings."""
    names, prose, before = [], [], ""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in NAME_TOKENS and not (before == "." and token.string in ALLOWED_ATTRIBUTES):
            names.append(token.string)
        if token.type in PROSE_TOKENS:
            prose.append(token.string)
        before = token.string
    return names, prose


def split_name(name: str) -> str:
    """Return the words of a name: claim_task and ClaimTask as claim task."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)


def list_files() -> Iterator[Path]:
    """Yield the repository's texts, without this file, caches and migrations."""
    for top in SCANNED:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__).resolve() and not {"__pycache__", "migrations"} & set(path.parts):
                yield path
    yield from sorted(ROOT.glob("*.md"))


def find_offenders() -> dict[str, list[str]]:
    """Return the banned words by file."""
    offenders: dict[str, list[str]] = {}
    for path in list_files():
        words = find_words(path.read_text(encoding="utf-8"), is_python=path.suffix == ".py")
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(DIMENSION_FOLDERS):
            words = [word for word in words if not word.lower().startswith("member")]
        if words:
            offenders[name] = words
    return offenders


def test_no_banned_words() -> None:
    assert not find_offenders()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def bury_alone(run): ...", ["bury"]),
        ("class CrewMember: ...", ["Crew", "Member"]),
        ("said = _('The run came to nothing.')", ["said", "came to nothing"]),
        ("# the last business day with a sale", ["business day"]),
        ("def test_star_is_loaded() -> None: ...", ["test star"]),
        ("f'{kept} of the first page'", ["first page", "kept"]),
        ("name.strip(), client.post(url), post_migrate.connect(fill), unknown_member  # kept for a year, in the background", []),
    ],
)
def test_banned_words_of_code_are_found(code: str, words: list[str]) -> None:
    assert find_words(code, is_python=True) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('msgid "Needs a look"', ["Needs a look"]),
        ('msgstr "Чистий виторг"', ["виторг"]),
        ("вилучено 3 рядки; запуск 8, приростовий не вдалося", ["вилучено", "приростовий не вдалося"]),
        ("Моменти розкладу, Межа завантаженого", ["Моменти розкладу", "Межа завантаженого"]),
        ("видалено, виручка, обробник, прочитано; kept for a year", []),
    ],
)
def test_banned_words_of_texts_are_found(text: str, words: list[str]) -> None:
    assert find_words(text) == words
