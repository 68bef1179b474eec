"""What TechMarket's commands share: one plain line for what went wrong, and an exit code that says of what kind it was."""

import os
import signal
import sys
import threading
import traceback
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from techmarket.diagnosis import diagnosed
from techmarket.errors import Cancelled, ChecksRefused, EtlError, Misconfigured, Usage
from techmarket.messages import message
from techmarket.version import read_version


class ExitCode(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    SKIPPED = 3
    CONFIGURATION = 4
    REFUSED = 5
    CANCELLED = 130
    UNREAD = 141  # as a shell says it of a program that SIGPIPE ended


CODES: dict[type[EtlError], ExitCode] = {
    Usage: ExitCode.USAGE,
    Misconfigured: ExitCode.CONFIGURATION,
    ChecksRefused: ExitCode.REFUSED,
    Cancelled: ExitCode.CANCELLED,
    EtlError: ExitCode.FAILED,
}
TRACEBACK = 3  # the verbosity that shows it
RECEIVED: list[str] = []  # what `interruptible` was told meanwhile: one of these, once
SIGNALS = {signal.SIGINT: "signal.terminal", signal.SIGTERM: "signal.sigterm", signal.SIGHUP: "signal.sighup"}  # codes of messages


class Command(BaseCommand):
    """Raise one of our errors from `handle`; a driver's error that comes through is the control database's."""

    # System checks of models connect to every database; a command says better what does not answer.
    requires_system_checks: Any = []

    def get_version(self) -> str:
        return read_version()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Without abbreviations: what is an unknown option today must not mean something tomorrow.
        parser = super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs)
        parser.error = lambda message: stop(f"{message}. See `{prog_name} {subcommand} --help`.", ExitCode.USAGE)  # type: ignore[method-assign]
        return parser

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            with interruptible(), diagnosed("default"):
                output = super().execute(*args, **options)
                sys.stdout.flush()
                return output
        except BrokenPipeError:
            # The reader has left (`| head -1`).
            forget_output()
            sys.exit(ExitCode.UNREAD)
        except (Exception, KeyboardInterrupt) as error:
            if options["verbosity"] >= TRACEBACK:
                traceback.print_exception(error)
            stop(*told(error))


def told(error: BaseException) -> tuple[str, ExitCode]:
    """What is no error of ours is a bug, and says so."""
    if isinstance(error, EtlError):
        return str(error), next(code for kind, code in CODES.items() if isinstance(error, kind))
    if isinstance(error, KeyboardInterrupt):
        return "Cancelled.", ExitCode.CANCELLED
    return f"Unexpected {type(error).__name__}: {error}. This is a bug; -v 3 shows the traceback.", ExitCode.FAILED


def stop(message: str, code: ExitCode) -> NoReturn:
    with suppress(OSError):  # nobody reads it any more; the exit code still tells
        print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def forget_output() -> None:
    """What stdout still holds goes nowhere; else Python would try again at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first signal to end raises KeyboardInterrupt with its name; later ones do not disturb the tidying up."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    mine = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]  # nohup, or a shell's `&`
    if threading.current_thread() is not threading.main_thread():
        mine = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in mine:
            signal.signal(each, signal.SIG_IGN)
        RECEIVED.append(message(SIGNALS[signal.Signals(number)]))
        heed_signals()

    for number in mine:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, before[number])
        RECEIVED.clear()


def heed_signals() -> None:
    """Raises KeyboardInterrupt where a signal came. Once may not do: where it meets a callback of C code, a destructor or a function of
    SQLite's, it is dropped there, or comes out as an error of that library's own."""
    if RECEIVED:
        raise KeyboardInterrupt(*RECEIVED)


@contextmanager
def signals_heeded() -> Iterator[None]:
    """What goes wrong inside after a signal came goes wrong because it came."""
    try:
        yield
    except Exception:
        heed_signals()
        raise


def whole_number(low: int, high: int) -> Any:
    """An argparse type: plain ASCII digits within bounds. int() alone takes 1_000 and other scripts' digits."""

    def parse(words: str) -> int:
        if not (words.isascii() and words.isdecimal() and low <= int(words[:20]) <= high):
            raise ArgumentTypeError(f"{words[:40]!r} is not a whole number from {low} to {high}")
        return int(words)

    return parse
