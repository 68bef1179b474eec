#!/usr/bin/env python
"""TechMarket's command line."""

import os
import signal
import sys
from pathlib import Path

from techmarket.installation import stop_if_incomplete  # refuses a Python that cannot run TechMarket

CANCELLED = 130


def main() -> None:
    make_streams_writable()
    leave_missing_folder()
    # Give up on a silent name server within seconds: the drivers' timeouts start only once the address is known.
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:2")
    try:
        execute_command()
    except ImportError as error:
        stop_if_incomplete(error)
        raise
    except KeyboardInterrupt:
        print("Cancelled.", file=sys.stderr)
        sys.exit(CANCELLED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done and cannot be cancelled any more


def execute_command() -> None:
    from techmarket.environment import set_up_django

    set_up_django()
    from techmarket.commands import Utility, decode_arguments  # after set_up_django, which keeps what it imports from the collector

    utility = Utility(decode_arguments(sys.argv))
    if sys.argv[1:2] == ["version"]:  # for this word Django prints its own version and looks for no command
        utility.fetch_command("version").run_from_argv(sys.argv)
    else:
        utility.execute()


def make_streams_writable() -> None:
    """Let printing succeed where a stream is closed (`>&-`) or lacks a letter (PYTHONIOENCODING=ascii)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        else:
            stream.reconfigure(errors="backslashreplace")


def leave_missing_folder() -> None:
    """Change to / if the current folder is gone: libraries ask for it."""
    try:
        Path.cwd()
    except OSError:
        os.chdir("/")


if __name__ == "__main__":
    main()
