"""The base of TechMarket's commands: one line on stderr for an error, an exit code for its kind, and orderly signals."""

import difflib
import errno
import os
import signal
import sys
import threading
import traceback
from argparse import ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import IntEnum
from types import FrameType
from typing import Any, NoReturn

from django.core.management import ManagementUtility, get_commands
from django.core.management.base import BaseCommand, CommandError, CommandParser, SystemCheckError

from techmarket.diagnosis import diagnosed
from techmarket.errors import Cancelled, ChecksRefused, EtlError, Misconfigured, Usage
from techmarket.installation import explain_import_error, is_incomplete
from techmarket.messages import message
from techmarket.printable import escape_unprintable
from techmarket.version import package_version


class ExitCode(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    SKIPPED = 3
    CONFIGURATION = 4
    REFUSED = 5
    DIFFERENT = 6  # a comparison found differences
    CANCELLED = 130
    UNREAD = 141  # what a shell reports for a program that SIGPIPE ended


CODES: dict[type[EtlError], ExitCode] = {
    Usage: ExitCode.USAGE,
    Misconfigured: ExitCode.CONFIGURATION,
    ChecksRefused: ExitCode.REFUSED,
    Cancelled: ExitCode.CANCELLED,
    EtlError: ExitCode.FAILED,
}
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
TRACEBACK = 3  # the verbosity that shows tracebacks
RECEIVED: list[str] = []  # the code of a signal that has arrived and is not handled yet
SIGNALS = {signal.SIGINT: "signal.terminal", signal.SIGTERM: "signal.sigterm", signal.SIGHUP: "signal.sighup"}  # codes of messages


class Utility(ManagementUtility):
    """Django's command line, with one line on stderr for a command or an option that there is not, Django's own commands included."""

    def fetch_command(self, subcommand: str) -> BaseCommand:
        known = get_commands()
        if subcommand not in known:
            meant = difflib.get_close_matches(subcommand, known, 1)
            hint = f"Did you mean {meant[0]}?" if meant else f"`{self.prog_name} help` lists the commands."
            stop(f"Unknown command: {subcommand!r}. {hint}", ExitCode.USAGE)
        command = super().fetch_command(subcommand)
        return command if isinstance(command, Command) else guard(command, subcommand)


def guard(command: BaseCommand, name: str) -> BaseCommand:
    """Let a command of Django's or of a library refuse an argument, and a database that cannot be used, as ours do."""
    create_parser, execute = command.create_parser, command.execute

    def create(prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return refuse_in_one_line(create_parser(prog_name, subcommand, **kwargs))

    def guarded(*args: Any, **options: Any) -> Any:
        try:
            with diagnosed(options.get("database") or "default"):
                return execute(*args, **options)
        except EtlError as error:
            stop(*describe_error(error))
        except SystemCheckError:
            raise  # a list, on lines of their own
        except CommandError as error:
            stop(f"{str(error).removeprefix('Error: ').rstrip('.')}. See `manage.py {name} --help`.", ExitCode(error.returncode))
        except EOFError:
            stop("Nobody has answered: the standard input has ended. Run the command in a terminal.", ExitCode.FAILED)

    command.create_parser, command.execute = create, guarded  # type: ignore[method-assign]
    return command


def decode_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments as UTF-8, whatever the locale. One that is not would fail in a database or a file, if not before."""
    decoded = []
    for argument in arguments:
        try:
            decoded.append(os.fsencode(argument).decode())
        except UnicodeDecodeError:
            stop(f"An argument is not UTF-8: {argument!r}. Set the terminal to UTF-8 and type it again.", ExitCode.USAGE)
    return decoded


def refuse_in_one_line(parser: CommandParser) -> CommandParser:
    """Let argparse refuse an argument in one line and without its usage, which is longer than the screen."""
    parser.error = lambda message: stop(f"{message.rstrip('.')}. See `{parser.prog} --help`.", ExitCode.USAGE)  # type: ignore[method-assign]
    return parser


class Command(BaseCommand):
    """A command raises one of our errors from `handle`; a driver's error that reaches this far is the control database's."""

    # Django's checks of models connect to every database; the command itself names better what does not answer.
    requires_system_checks: Any = []

    def get_version(self) -> str:
        return package_version()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # No abbreviations: an unknown option of today must not mean something tomorrow.
        return refuse_in_one_line(super().create_parser(prog_name, subcommand, allow_abbrev=False, **kwargs))

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
            if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is None:  # of no file: of our output
                forget_output()
                stop(f"The output cannot be written: {error.strerror}. Write it elsewhere, or free space there.", ExitCode.FAILED)
            stop(*describe_error(error))


def describe_error(error: BaseException) -> tuple[str, ExitCode]:
    """Return the line and the exit code for an error. What is no error of ours is reported as a bug."""
    if isinstance(error, EtlError):
        return str(error), next(code for kind, code in CODES.items() if isinstance(error, kind))
    if isinstance(error, KeyboardInterrupt):
        return "Cancelled.", ExitCode.CANCELLED
    if isinstance(error, ImportError) and is_incomplete(error):
        return explain_import_error(error), ExitCode.CONFIGURATION
    return f"Unexpected {type(error).__name__}: {error}. This is a bug; -v 3 shows the traceback.", ExitCode.FAILED


def stop(text: str, code: ExitCode) -> NoReturn:
    """Print one line on stderr and exit."""
    with suppress(OSError):  # nobody reads it any more; the exit code remains
        print(escape_unprintable(" ".join(text.split())), file=sys.stderr)
    sys.exit(code)


def forget_output() -> None:
    """Discard what stdout still buffers; otherwise Python would flush it again at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP inside into a KeyboardInterrupt with a message; ignore later ones during cleanup."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]  # nohup, or a shell's `&`
    if threading.current_thread() is not threading.main_thread():
        handled = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_IGN)
        RECEIVED.append(SIGNALS[signal.Signals(number)])
        heed_signals()

    for number in handled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
        RECEIVED.clear()


def heed_signals() -> None:
    """Raise KeyboardInterrupt if a signal has arrived. Raising once is not enough: inside a callback of C code, a destructor or a
    function of SQLite's it is dropped, or comes out as that library's own error."""
    if RECEIVED:
        raise KeyboardInterrupt(message(RECEIVED[0]))


@contextmanager
def signals_heeded() -> Iterator[None]:
    """Take an error inside for the consequence of a signal, if one has arrived."""
    try:
        yield
    except Exception:
        heed_signals()
        raise


def whole_number(low: int, high: int) -> Any:
    """Return an argparse type for plain ASCII digits within bounds; int() alone takes 1_000 and other scripts' digits."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text[:20]) <= high):
            raise ArgumentTypeError(f"{text[:40]!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse
