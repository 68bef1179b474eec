"""The vocabulary of code, pages and documents: words that were replaced by the field's own do not come back."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# TEMPORARY: folders that still have such words. Remove a folder once it is clean; empty, the constant goes.
NOT_YET_CLEAN: frozenset[str] = frozenset()

ENGLISH = re.compile(
    r"(?<![a-z])(?:"
    r"crews?|members?|asking|asked|bury|buried|strip|strips|sentences?|books|ground|paper|post|told|said|kept|sound|noted|blames?"
    r"|business days?|first page|came to nothing|needs? a look|due instants?|take back|keep promises|goes on where|carr(?:y|ies) it out"
    r"|operator's word|to blame"
    r")(?![a-z])",
    re.IGNORECASE,
)
UKRAINIAN = re.compile(
    r"(?<!\w)(?:"
    r"вилуч\w+|вилучен\w+|виторг\w*|виконав(?:ець|ц\w+)|приростовий не вдалося|момент\w* розкладу|межа завантаженого|позначк\w+ рівня"
    r"|крамниц\w+|відсіян\w*|парті[ія]\w*|зріз\w*|стан розкладів|запуск\w* виконують|завантажити ці"
    r")(?!\w)",
    re.IGNORECASE,
)
# Names that are not ours, and other meanings of these words.
ALLOWED = re.compile(
    r"\.[lr]?strip\(|(?<=\.)strip\b|map\(str\.strip|"  # a method of str
    r"\bHTTP POST\b|\brequest\.POST\b|\bPOST\b|\.post\(|\bmethod=\"post\"|[\"']post[\"']|\bpost_(?:migrate|save|delete|\d+)\b|--post-data|"
    r"(?:unknown|inferred|dimensions?'?|special) members?|unknown and inferred\s+members?|"  # rows of a dimension
    r"sslmode|KEPT(?= |$)|\b[Gg]round truth\b|class Meta\b|"
    r"__members__|Strip(?=-Prefix)",
)
# Plain words that only in code and on pages were names of ours.
ALLOWED_IN_DOCUMENTS = {"kept", "asked", "sentence", "sentences", "sound", "member"}
SUFFIXES = {".py", ".html", ".css", ".po", ".md", ".txt", ".toml"}
SCANNED = ("apps", "techmarket", "templates", "tests", "docs")
OLD_FOLDERS = ("tests/bad",)
STAR_IN_TEST_NAME = re.compile(r"def test_(?:\w*_)?star(?:_|\()|test_star\.py")


def find_words(text: str) -> list[str]:
    """Return the banned words of a text. Underscores, digits and capitals within an identifier are boundaries of words."""
    left = ALLOWED.sub(" ", text)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", left)
    return [match.group() for pattern in (ENGLISH, UKRAINIAN) for match in pattern.finditer(spaced)] + STAR_IN_TEST_NAME.findall(text)


def list_files() -> Iterator[Path]:
    """Yield the repository's texts, without this file, caches and what a program has written."""
    for top in SCANNED:
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in SUFFIXES and path != Path(__file__).resolve() and not {"__pycache__", "migrations"} & set(path.parts):
                yield path
    yield from sorted(ROOT.glob("*.md"))


def top_folder(path: Path) -> str:
    """Return the folder that somebody cleans as a whole: apps/etl, tests/browser, docs."""
    parts = path.relative_to(ROOT).parts
    depth = 2 if parts[0] in ("apps", "tests") and len(parts) > 2 else 1
    return "/".join(parts[:depth])


def find_offenders() -> dict[str, dict[str, list[str]]]:
    """Return the banned words by top folder and file."""
    offenders: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for path in list_files():
        words = find_words(path.read_text(encoding="utf-8"))
        if path.suffix == ".md":
            words = [word for word in words if word.lower() not in ALLOWED_IN_DOCUMENTS]
        if words:
            offenders[top_folder(path)][str(path.relative_to(ROOT))] = words
    return offenders


def test_no_banned_words() -> None:
    offenders = {folder: files for folder, files in find_offenders().items() if folder not in NOT_YET_CLEAN}
    assert not offenders


def test_no_old_folders() -> None:
    assert not [folder for folder in OLD_FOLDERS if (ROOT / folder).exists() and "tests" not in NOT_YET_CLEAN]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def bury_alone(run): ...", ["bury"]),
        ("class CrewMember:", ["Crew", "Member"]),
        ("said = _('The run was asked for.')", ["said", "asked"]),
        ("the last business day with a sale", ["business day"]),
        ("def test_star_is_loaded() -> None:", ["def test_star_"]),
        ('msgstr "Чистий виторг"', ["виторг"]),
        ("вилучено 3 рядки; запуск 8, приростовий не вдалося", ["вилучено", "приростовий не вдалося"]),
        ("Моменти розкладу", ["Моменти розкладу"]),
        ("name.strip(), client.post(url), the background, a blueprint, unknown members", []),
        ("if request.method == 'POST': post_migrate.connect(fill_groups)", []),
        ("видалено, виручка, обробник, прочитано", []),
    ],
)
def test_banned_words_are_found(text: str, words: list[str]) -> None:
    assert find_words(text) == words
