"""The log: one line per event, on stderr, because stdout is for --json. Django, Celery and gunicorn write the same format as we do.

A line has timestamp, level, logger and event, and while a task of a run executes also run, task, stage and table. Secrets and personal
data are masked just before a line is written, whichever library wrote it. What a text of it has of line ends and of escapes of a
terminal is escaped: nobody writes a second line, or to the terminal, by a name or a path.
"""

import html
import json
import logging
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus

from techmarket.printable import escape_unprintable


@contextmanager
def without_rich() -> Iterator[None]:
    """Let structlog find no rich: it would import it for tracebacks, which are plain here. That is a tenth of what starting imports."""
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["rich"]


with without_rich():
    import structlog

MASKED = "***"
TRACEBACKS = {"exception", "stack"}
FIRST_KEYS = ("timestamp", "level", "event", "logger", "run", "task", "stage", "table")
# A shorter secret would match in ordinary words.
MIN_SECRET_LENGTH = 6
# Docker splits a line at 16 KiB, and the parts are not valid JSON. Of a traceback the last lines matter most.
MAX_LENGTH = 6_000
MAX_MASKED_LENGTH = 50_000  # masking it takes 15 ms
SECRET_NAME = re.compile(r"passw|pwd|secret|token|api.?key|authorization|cookie|credential|session.?id|signature", re.IGNORECASE)
PERSONAL_NAME = re.compile(r"e.?mail|phone|(first|last|full|customer).?name|address|birth", re.IGNORECASE)
# Every repetition has a limit, so that a line of 10 000 letters does not take a second to search.
RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), masked)
    for pattern, masked in (
        # postgres://user:password@host, and https://token@host
        (r"(://[^\s:/@\"']{0,64}:)[^\s\"']{1,256}@", rf"\1{MASKED}@"),
        (r"://[^\s:/@\"']{1,256}@", rf"://{MASKED}@"),
        (r"\b(authorization[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[^\r\n,;\"']{1,512}", rf"\1{MASKED}"),
        (r"\b(bearer\s{1,3})[\w.~+/=-]{6,}", rf"\1{MASKED}"),
        # password=x, "token": "x", PASSWORD='x y'
        (
            r"((?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|cookie|sessionid)[\w-]{0,20}[\"']?\s{0,3}[=:]\s{0,3})"
            r"(?:\"[^\"]{0,512}\"|'[^']{0,512}'|[^\s,;&\"']{1,512})",
            rf"\1{MASKED}",
        ),
        (r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}", MASKED),
        # +380 (67) 123-45-67, 380671234567, 067 123 45 67
        (r"(?<![\w.:+-])(?:\+\d|380|0[3-9]\d)[\s().-]{0,2}(?:\d[\s().-]{0,2}){6,12}\d(?![\w:])", MASKED),
    )
)


renewed_secrets: set[str] = set()  # since the start


def mask_also(secret: str) -> None:
    """Mask this secret, too, from now on."""
    if len(secret) >= MIN_SECRET_LENGTH:
        renewed_secrets.update(spell_secret(secret))


class Mask:
    """A structlog processor that masks secrets and personal data. `secrets` are values from our settings, masked wherever they occur."""

    def __init__(self, secrets: Iterable[str]):
        forms = {form for secret in secrets if len(secret) >= MIN_SECRET_LENGTH for form in spell_secret(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self.secrets = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        masked = {self.mask_text(name): self.mask_value(name, value) for name, value in event.items()}
        return {name: masked[name] for name in FIRST_KEYS if name in masked} | masked

    def mask_value(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if SECRET_NAME.search(name) or PERSONAL_NAME.search(name):
            return MASKED
        if isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {self.mask_text(str(key)): self.mask_value(str(key), each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.mask_value(name, each) for each in value]
        return self.mask_text(str(value))

    def mask_text(self, text: str) -> str:
        text = shorten(text, MAX_MASKED_LENGTH)
        if self.secrets:
            text = self.secrets.sub(MASKED, text)
        for secret in tuple(renewed_secrets):  # another thread may add one
            text = text.replace(secret, MASKED)
        for pattern, masked in RULES:
            text = pattern.sub(masked, text)
        return shorten(text, MAX_LENGTH)


def spell_secret(secret: str) -> Iterator[str]:
    """Yield the secret as addresses, forms, pages, and messages of libraries may have it."""
    quoted = quote(secret, safe="")
    yield from (secret, quoted, re.sub("%..", lambda found: found[0].lower(), quoted), quote(secret), quote_plus(secret))
    yield from (repr(secret)[1:-1], repr(secret.encode())[2:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (html.escape(secret), b64encode(secret.encode()).decode())


def shorten(text: str, size: int) -> str:
    """Cut the middle out of a text longer than `size`: a quarter of what stays is its beginning, the rest its end."""
    return text if len(text) <= size else f"{text[: size // 4]} [...] {text[-size * 3 // 4 :]}"


# Applied to every line, including those of the standard library's loggers.
COMMON: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class WithoutTraceback(logging.Filter):
    """Drops the traceback of a request that was refused (4xx): it is no error of ours, and anybody can send many of them."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = None
        return True


def build_logging(log_format: str, run_loggers: Iterable[str], secrets: Iterable[str]) -> dict[str, Any]:
    """Return Django's LOGGING, which gunicorn and Celery use too.

    `run_loggers` report what happens to runs. On a console they are silent except in workers (`set_levels`), because a command or a
    script prints or raises the same itself. A log collector gets every line.
    """
    json_renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    renderers = [json_renderer, escape_json] if log_format == "json" else [escape_texts, console_renderer()]
    propagated = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": COMMON,
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    Mask(secrets),
                    *renderers,
                ],
            }
        },
        "filters": {"refused": {"()": WithoutTraceback}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["refused"]}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "apps": {"level": "INFO" if log_format == "json" else "WARNING"},
            **{name: {"level": "NOTSET" if log_format == "json" else "CRITICAL"} for name in run_loggers},
            "django": propagated | {"level": "INFO"},
            "django.server": propagated | {"level": "INFO"},
            "celery": {"level": "INFO"},
            "kombu.connection": {"level": "ERROR"},  # it warns that the filesystem broker has no host name
            "gunicorn.error": propagated | {"level": "INFO"},
            "gunicorn.access": propagated | {"level": "INFO"},
        },
    }


def console_renderer() -> Any:
    # The traceback is a masked string by then.
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def escape_json(logger: object, method: str, line: str) -> str:
    """Escape in a JSON line what JSON itself allows: line ends of Unicode, the controls from 0x7f on, lone surrogates."""
    return line if line.isprintable() else "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def escape_texts(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape the texts of a line for a console."""
    return {escape_unprintable(name): escape_text(name, value) for name, value in event.items()}


def escape_text(name: str, value: Any) -> Any:
    """Return the value escaped. Only a traceback has lines of its own, each indented: none looks like one of the log."""
    if name in TRACEBACKS:
        return "\n".join(f"    {escape_unprintable(line)}" for line in str(value).split("\n"))
    return escape_unprintable(value) if isinstance(value, str) else value


def configure_structlog(log_format: str) -> None:
    """Let structlog pass its lines to the standard library's logger of the calling module."""
    logging.captureWarnings(log_format == "json")
    structlog.configure(
        processors=[*COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def set_levels(run_loggers: Iterable[str], level: int) -> None:
    """Set the level of our loggers and Celery's, in workers and beat, whose terminal is a log."""
    for name in ("apps", *run_loggers, "celery"):
        logging.getLogger(name).setLevel(level)
