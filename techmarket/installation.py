"""What TechMarket needs of the Python that runs it. Imports nothing else, and is valid in older versions of Python: it must run there."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

OLDEST_PYTHON = (3, 12)
INCOMPLETE_EXIT_CODE = 4  # as for settings that cannot be used
OWN_PACKAGES = ("apps", "techmarket", "tests")
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120


def refuse_old_python() -> None:
    """End a process whose Python is too old with one line instead of a syntax error."""
    if sys.version_info < OLDEST_PYTHON:
        wanted, found = (".".join(str(number) for number in version[:2]) for version in (OLDEST_PYTHON, sys.version_info))
        stop(f"TechMarket needs Python {wanted} or newer, and {sys.executable} is {found}. {next_step()}")


def stop_if_incomplete(error: ImportError) -> None:
    """End the process with one line if a package of others is missing or cannot be loaded; return if a module of ours is."""
    if is_incomplete(error):
        stop(explain_import_error(error))


def is_incomplete(error: ImportError) -> bool:
    """Return True if the module that cannot be imported is none of ours."""
    return (error.name or "").partition(".")[0] not in OWN_PACKAGES


def explain_import_error(error: ImportError) -> str:
    module = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    if error.name and (module + ".").startswith(error.name + "."):
        return f"DJANGO_SETTINGS_MODULE: there is no module {module!r} here; it belongs to another project. Unset it."
    return f"{sys.executable} lacks a package that TechMarket needs: {error}. {next_step()}"


def next_step() -> str:
    if os.path.realpath(sys.prefix) == os.path.realpath(os.path.join(CHECKOUT, ".venv")):  # noqa: PTH118
        return "Run `make setup`, which installs what is missing."
    return "Run `make setup`, then use the environment that it creates: `.venv/bin/python manage.py ...`."


def stop(text: str) -> NoReturn:
    with suppress(OSError):  # nobody reads it any more; the exit code remains
        print(" ".join(text.split()), file=sys.stderr)
    sys.exit(INCOMPLETE_EXIT_CODE)
