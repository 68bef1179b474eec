"""The log: one line an event, on stderr, because stdout belongs to --json. Django's lines, Celery's and gunicorn's look as ours do.

A line has timestamp, level, logger, event and, where a task of a run is at work, run, task, stage and table. Secrets and personal data
are masked at the last moment before it is written, whoever wrote it.
"""

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

import structlog

MASKED = "***"
RUNS = "apps.orchestration.worker.loop"
FIRST = ("timestamp", "level", "event", "logger", "run", "task", "stage", "table")
# Shorter ones would be found in words that mean something else.
SHORTEST_SECRET = 6
# Docker cuts a line at 16 KiB, and what is cut is no JSON any more. A traceback's last lines say the most.
LONGEST = 6_000
LONGEST_READ = 50_000  # masking costs 15 ms there
SECRET_NAME = re.compile(r"passw|pwd|secret|token|api.?key|authorization|cookie|credential|session.?id|signature", re.IGNORECASE)
PERSONAL_NAME = re.compile(r"e.?mail|phone|(first|last|full|customer).?name|address|birth", re.IGNORECASE)
# Every repetition has a bound: a line of 10 000 letters must not take a second.
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


class Mask:
    """A structlog processor. `secrets` are those of this process's own settings: found wherever they stand, however they came there."""

    def __init__(self, secrets: Iterable[str]):
        words = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in (secret, quote(secret, safe=""))}
        longest_first = sorted(words, key=len, reverse=True)
        self.known = re.compile("|".join(map(re.escape, longest_first))) if words else None

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        masked = {name: self.value(name, value) for name, value in event.items()}
        return {name: masked[name] for name in FIRST if name in masked} | masked

    def value(self, name: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if SECRET_NAME.search(name) or PERSONAL_NAME.search(name):
            return MASKED
        if isinstance(value, int | float):
            return value
        if isinstance(value, Mapping):
            return {str(key): self.value(str(key), each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(name, each) for each in value]
        return self.text(str(value))

    def text(self, words: str) -> str:
        words = shortened(words, LONGEST_READ)
        if self.known:
            words = self.known.sub(MASKED, words)
        for pattern, masked in RULES:
            words = pattern.sub(masked, words)
        return shortened(words, LONGEST)


def shortened(words: str, size: int) -> str:
    return words if len(words) <= size else f"{words[: size // 4]} [...] {words[-size * 3 // 4 :]}"


# What every line gets, also those that come through the standard library's loggers.
COMMON: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configuration(log_format: str, secrets: Iterable[str]) -> dict[str, Any]:
    """Django's LOGGING; the same for gunicorn and Celery.

    On a console what a run does is told by workers alone (`chatty`): a command, or a script, says or raises it itself. A collector
    gets it all.
    """
    looks = [structlog.processors.JSONRenderer(ensure_ascii=False)] if log_format == "json" else [console()]
    ours = {"handlers": [], "propagate": True}
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
                    *looks,
                ],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "apps": {"level": "INFO" if log_format == "json" else "WARNING"},
            RUNS: {"level": "NOTSET" if log_format == "json" else "CRITICAL"},
            "django": ours | {"level": "INFO"},
            "django.server": ours | {"level": "INFO"},
            "celery": {"level": "INFO"},
            "kombu.connection": {"level": "ERROR"},  # it warns that a broker of files has no host name
            "gunicorn.error": ours | {"level": "INFO"},
            "gunicorn.access": ours | {"level": "INFO"},
        },
    }


def console() -> Any:
    # The traceback is a string by then, and masked.
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def configure(log_format: str) -> None:
    """structlog's own loggers hand their lines to the standard library's, named after the module that writes."""
    logging.captureWarnings(log_format == "json")
    structlog.configure(
        processors=[*COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def chatty(level: int) -> None:
    """For workers and beat, whose terminal is a log: what runs do is told there too."""
    for name in ("apps", RUNS, "celery"):
        logging.getLogger(name).setLevel(level)
