"""One row of the table: a bad input or environment, where it stands, and how TechMarket refuses it."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

SECRET = "c4nary"  # part of every password, key and token that a case has
FOLDER = "FOLDER"  # in a row: the folder of that case alone


class Kind(StrEnum):
    SETTING = "setting"
    FILE = "settings file"
    VALUE_FILE = "file of a value"
    COMMAND = "command"
    DATABASE = "database"
    PROGRAM = "program"
    SHELL = "shell"
    PAGE = "page"


@dataclass(frozen=True)
class Case:
    """`text` is the essential part of what stands on stderr, or on the page."""

    what: str
    where: str
    code: int
    text: str
    kind: Kind
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    damage: Callable[[Path], None] | None = None
    request: "Request | None" = None


@dataclass(frozen=True)
class Request:
    """An HTTP request as it is typed: `target` may hold any bytes. Who asks is signed in as an administrator, unless `anonymous`."""

    method: str
    target: str
    form: Mapping[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    anonymous: bool = False


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def setting(what: str, text: str, code: int = 4, command: str = "check", **env: str) -> Case:
    """Return the row of a variable of the environment, which every program refuses when it starts."""
    return Case(what, ", ".join(f"{name}={value}" for name, value in env.items()), code, text, Kind.SETTING, (command,), env)


def line(what: str, content: str | bytes, text: str) -> Case:
    """Return the row of a settings file with this content."""
    raw = content if isinstance(content, bytes) else content.encode()
    return Case(what, f".env: {raw.decode(errors='replace')!r}", 4, text, Kind.FILE, ("check",), {"ENV_FILE": f"{FOLDER}/env"}, raw)


def value_file(what: str, name: str, content: bytes, text: str, **env: str) -> Case:
    """Return the row of a file that holds the value of one setting."""
    files = {f"{name}_FILE": f"{FOLDER}/value"} | env
    return Case(what, f"{name}_FILE: {content[:40]!r}", 4, text, Kind.VALUE_FILE, ("check",), files, content)


def command(what: str, typed: str | tuple[str, ...], code: int, text: str, **env: str) -> Case:
    """Return the row of a command, run in a loaded shop."""
    arguments = tuple(shlex.split(typed)) if isinstance(typed, str) else typed
    shown = typed if isinstance(typed, str) else shlex.join(typed)
    return Case(what, f"manage.py {shown}", code, text, Kind.COMMAND, arguments, env)


def database(what: str, typed: str, code: int, text: str, damage: Callable[[Path], None] | None = None, **env: str) -> Case:
    """Return the row of a command, run in a copy of the shop that is damaged before."""
    shown = "".join(f"{name}={value} " for name, value in env.items())
    return Case(what, f"{shown}manage.py {typed}", code, text, Kind.DATABASE, tuple(shlex.split(typed)), env, damage=damage)


def program(what: str, typed: str, code: int, text: str, **env: str) -> Case:
    """Return the row of another program than manage.py, or of a start that a prepared process cannot imitate."""
    shown = "".join(f"{name}={value} " for name, value in env.items())
    return Case(what, f"{shown}{typed}", code, text, Kind.PROGRAM, ("sh", "-c", typed), env)


def shell(what: str, typed: str, code: int, text: str, **env: str) -> Case:
    """Return the row of a command in an unusual shell, which a prepared process cannot imitate, with a copy of the shop."""
    return Case(what, typed, code, text, Kind.SHELL, ("sh", "-c", typed), env)


def page(what: str, request: str, status: int, text: str, **options: object) -> Case:
    """Return the row of an HTTP request, `GET /admin/...`. `text` is part of the text that the browser shows in the end."""
    method, target = request.split(" ", 1)
    return Case(what, request, status, text, Kind.PAGE, request=Request(method, target, **options))  # type: ignore[arg-type]
