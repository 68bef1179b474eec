"""Reads the settings file, `.env` or what ENV_FILE names. A line that is not NAME=value is refused with its number, never with its text.

A lenient reader would skip it, and production would start with what development has: DEBUG, and SQLite.
"""

import difflib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

LARGEST_FILE = 65_536  # bytes: a device would have no end
LINE = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<equals>[ \t]*=[ \t]*)(?P<value>.*)")
QUOTES = {"'", '"'}
OTHER_QUOTES = tuple("“”„‟«»‹›‘’‚‛`´")
UNREPLACED = re.compile(r"\$[({]")  # a shell, Compose or Kubernetes would have put a value there: as it stands, a secret is public
EXAMPLE = "DEBUG=False"
SIMILAR = 0.88  # of 1: CONTOL_DB_URL and CONTROL_DB_URL are 0.96, AUTH_DB_PORT and AUTH_DB_URL 0.78
ENCODINGS = {b"\xef\xbb\xbf": "UTF-8 with a byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_env_file(path: Path, required: bool) -> dict[str, str]:
    """Return the file's variables; none where it does not exist and is not `required`. Raises ImproperlyConfigured."""
    if not required and not os.path.lexists(path):
        return {}
    try:
        content = read_text_file(path)
    except ValueError as error:
        raise ImproperlyConfigured(f"ENV_FILE: cannot read {path}: {error}. Example: ENV_FILE=/etc/techmarket/env") from None
    found: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for number, name, value in parse_lines(content, path):
        if name in found:
            raise bad_line(path, number, f"{name} is set twice, here and in line {numbers[name]}; keep one", f"{name}=value")
        found[name], numbers[name] = value, number
    return found


def read_text_file(path: Path) -> str:
    """Return the text of a file with settings. Raises ValueError with the cause, which shows nothing of the file."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None
    if len(raw) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE} bytes")
    for mark, encoding in ENCODINGS.items():
        if raw.startswith(mark):
            raise ValueError(f"it is {encoding}. Save it as UTF-8 without a byte order mark")
    if b"\0" in raw:
        raise ValueError("it has a NUL byte, as UTF-16 does. Save it as UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8. Save it as UTF-8") from None


def parse_lines(content: str, path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and value of each line that sets a variable. Lines end as on Unix or as on Windows."""
    for number, line in enumerate(content.split("\n"), 1):
        text = line.removesuffix("\r")
        if not text.strip() or text.lstrip().startswith("#"):
            continue
        try:
            yield (number, *parse_line(text))
        except ValueError as error:
            example = f"{error.args[1]}=value" if len(error.args) > 1 else EXAMPLE
            raise bad_line(path, number, error.args[0], example) from None


def parse_line(text: str) -> tuple[str, str]:
    """Return name and value. Raises ValueError with the cause, and with the name where it surely is one."""
    if text[0].isspace():
        raise ValueError("begins with a space; remove it")
    match = LINE.fullmatch(text)
    if not match:
        raise ValueError("is not NAME=value")
    name, value = match["name"], match["value"].rstrip(" \t")
    if match["equals"] != "=" and value:
        raise ValueError(f"has a space beside the = after {name}; remove it", name)
    if not value.replace("\t", " ").isprintable():  # a no-break space among them, as copied from a web page
        raise ValueError(f"has an invisible character in the value of {name}; remove it", name)
    if UNREPLACED.search(value) and value[:1] != "'":
        text = "which nothing replaces here; write the value itself, or single quotes around it"
        raise ValueError(f"has $( or ${{ in the value of {name}, {text}", name)
    if value[:1] in QUOTES:
        return name, unquote(name, value)
    if value.startswith(OTHER_QUOTES):
        raise ValueError(f"has another quotation mark than ' or \" around the value of {name}; use one of these or none", name)
    if re.search(r"\s#", value):
        raise ValueError(f"has a # after a space in the value of {name}; quote the value, or put the comment on a line of its own", name)
    return name, value


def unquote(name: str, value: str) -> str:
    """Return the text between the quotation marks; between double ones a backslash takes the next character as it is."""
    mark = value[0]
    inner = r"(?:[^\"\\]|\\.)*" if mark == '"' else "[^']*"
    if not re.fullmatch(f"{mark}{inner}{mark}", value):
        raise ValueError(f"has no {mark} at the end of the value of {name}, or more after it; quote the whole value", name)
    return re.sub(r"\\(.)", keep_escape, value[1:-1]) if mark == '"' else value[1:-1]


def keep_escape(match: re.Match[str]) -> str:
    return match[0] if match[1] in "rnt" else match[1]


def refuse_misspelled(names: Collection[str], known: Iterable[str], where: Path | str) -> None:
    """Raise ImproperlyConfigured for a name that is almost one of ours: its setting would silently have the default.

    Other names pass, since Compose reads the same file, and so do those beside the right one.
    """
    all_known = sorted({each for name in known for each in (name, f"{name}_FILE")})
    by_letters = {letters(each): each for each in all_known}
    given = {name.removesuffix("_FILE") for name in names}
    for name in names:
        if name not in all_known and (meant := find_similar(name, all_known, by_letters)) and meant.removesuffix("_FILE") not in given:
            raise ImproperlyConfigured(f"{where}: there is no setting {name}, and {meant} is much like it. Example: {meant}=value")


def find_similar(name: str, known: Collection[str], by_letters: Mapping[str, str]) -> str:
    """Return the known name that differs in case, in underscores, in the order of letters, in one or two of many or in DJANGO_; or ""."""
    if (bare := name.upper().removeprefix("DJANGO_")) in known:  # as many projects name their variables
        return bare
    close = difflib.get_close_matches(name.upper(), may_be_similar(name.upper(), known), 1, SIMILAR)
    return by_letters.get(letters(name)) or (close[0] if close else "")


def may_be_similar(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names without those that differ in too many letters: difflib alone takes 10 ms for a whole environment."""
    size, found = len(name), {*name}
    alike = [each for each in known if abs(len(each) - size) <= (1 - SIMILAR) * (len(each) + size)]
    return [each for each in alike if len({*each} ^ found) <= (1 - SIMILAR) * (len(each) + size)]


def letters(name: str) -> str:
    return "".join(sorted(name.upper().replace("_", "")))


def bad_line(path: Path, number: int, cause: str, example: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{path}, line {number} {cause}. Example: {example}")
