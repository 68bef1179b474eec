"""Everything that the documents name exists: files, headings, variables, commands with their options, Makefile targets."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from tests.conftest import ROOT
from tests.docs.documents import DOCUMENTS, find_anchors, find_links, find_quoted

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
# Files that define variables: of the program, the stack, the tests, the images and their scripts.
VARIABLE_FILES = (
    ".env.example",
    "docker-compose.yml",
    "docker-compose.airflow.yml",
    "Makefile",
    "tests/servers.py",
    "tests/airflow",
    "tests/browser/chromium.py",
    "deploy",
    "k8s",
)
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
# Names in the form of a variable that are none.
NOT_VARIABLES = {"BI_VIEWER"}
PLACEHOLDERS = {"N": "1", "RUN": "1", "FROM": "2024-01-01", "YYYY-MM-DD": "2024-01-01", "D": "2024-01-01"}


@each
def test_links_lead_somewhere(document: Path) -> None:
    for target in find_links(document):
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists() and file.is_relative_to(ROOT), target
        assert not anchor or anchor in find_anchors(file), target


@each
def test_named_variables_exist(document: Path) -> None:
    named = {text.partition("=")[0] for text in find_quoted(document)}
    known = find_variables() | NOT_VARIABLES
    assert {name for name in named if VARIABLE.fullmatch(name) and name not in known and name.removesuffix("_FILE") not in known} == set()


@cache
def find_variables() -> set[str]:
    files = [file for place in VARIABLE_FILES for file in (ROOT / place, *(ROOT / place).rglob("*")) if file.is_file()]
    return {name for file in files for name in re.findall(r"[A-Z][A-Z0-9_]+", file.read_text(errors="replace"))} | {"NAME"}


def test_variables_of_the_configuration_table_are_in_the_example() -> None:
    table = (ROOT / "README.md").read_text().partition("## Configuration")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", "\n".join(line.partition("|")[2].partition("|")[0] for line in table.splitlines())))
    example = set(re.findall(r"^#([A-Z][A-Z_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert len(named) > 10 and named <= example


@each
def test_quoted_commands_are_valid(document: Path) -> None:
    """Parse them with the command's own parser, which refuses removed options and invalid values."""
    for text in find_quoted(document):
        if text.startswith("manage.py "):
            parse_command(text)


def parse_command(text: str) -> None:
    name, *arguments = re.split(r"\s+", text.removeprefix("manage.py ").split(" #")[0])
    assert name in get_commands(), text
    if "..." in text or "[" in text:
        return
    parser: Any = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    values = [PLACEHOLDERS.get(argument, argument).strip('"') for argument in re.sub(r'"[^"]*"', "words", " ".join(arguments)).split()]
    try:
        parser.parse_args(values)
    except SystemExit:
        pytest.fail(f"{text}: the command does not take it")


@each
def test_makefile_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {text.split()[1] for text in find_quoted(document) if re.match(r"make [a-z]", text)}
    assert named <= targets
