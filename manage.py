#!/usr/bin/env python
"""TechMarket's command line."""

import os
import signal
import sys
from pathlib import Path

CANCELLED = 130


def main() -> None:
    make_writable()
    stand_somewhere()
    # A name server that never answers is given up after seconds: the drivers' limits begin where the address is known.
    os.environ.setdefault("RES_OPTIONS", "timeout:2 attempts:2")
    try:
        execute()
    except KeyboardInterrupt:
        print("Cancelled.", file=sys.stderr)
        sys.exit(CANCELLED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done, there is nothing to cancel any more


def execute() -> None:
    from django.core.management import ManagementUtility

    from techmarket.environment import set_up

    set_up()
    utility = ManagementUtility(sys.argv)
    if sys.argv[1:2] == ["version"]:  # for this word Django prints its own version and looks for no command
        utility.fetch_command("version").run_from_argv(sys.argv)
    else:
        utility.execute()


def make_writable() -> None:
    """Printing cannot fail for the lack of a stream (`>&-`) or of a letter (PYTHONIOENCODING=ascii)."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        else:
            stream.reconfigure(errors="backslashreplace")


def stand_somewhere() -> None:
    """Libraries ask where we are; the folder may be gone."""
    try:
        Path.cwd()
    except OSError:
        os.chdir("/")


if __name__ == "__main__":
    main()
