"""What the documents name is there: files, headings, variables, commands with their options, targets of make."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class

from tests.conftest import ROOT
from tests.docs.documents import DOCUMENTS, anchors, links, quoted

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
# What names variables, besides .env.example: the stack's own, the tests', and what the images and their scripts take.
PLACES = (
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
# Words that are written like a variable and are none.
NO_VARIABLES = {"BI_VIEWER"}
PLACEHOLDERS = {"N": "1", "RUN": "1", "FROM": "2024-01-01", "YYYY-MM-DD": "2024-01-01", "D": "2024-01-01"}


@each
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists() and file.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(file), target


@each
def test_variables_that_are_named_exist(document: Path) -> None:
    named = {words.partition("=")[0] for words in quoted(document)}
    assert {name.removesuffix("_FILE") for name in named if VARIABLE.fullmatch(name)} <= variables() | NO_VARIABLES


@cache
def variables() -> set[str]:
    files = [file for place in PLACES for file in (ROOT / place, *(ROOT / place).rglob("*")) if file.is_file()]
    return {name for file in files for name in re.findall(r"[A-Z][A-Z0-9_]+", file.read_text(errors="replace"))} | {"NAME"}


def test_every_variable_of_the_configuration_table_is_an_examples() -> None:
    table = (ROOT / "README.md").read_text().partition("## Configuration")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", "\n".join(line.partition("|")[2].partition("|")[0] for line in table.splitlines())))
    example = set(re.findall(r"^#([A-Z][A-Z_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert len(named) > 10 and named <= example


@each
def test_commands_in_the_text_are_as_the_program_takes_them(document: Path) -> None:
    """Parsed by the command's own parser: an option that went, or a value that it refuses, is found."""
    for words in quoted(document):
        if words.startswith("manage.py "):
            parse(words)


def parse(words: str) -> None:
    name, *arguments = re.split(r"\s+", words.removeprefix("manage.py ").split(" #")[0])
    assert name in get_commands(), words
    if "..." in words or "[" in words:
        return
    parser: Any = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
    values = [PLACEHOLDERS.get(argument, argument).strip('"') for argument in re.sub(r'"[^"]*"', "words", " ".join(arguments)).split()]
    try:
        parser.parse_args(values)
    except SystemExit:
        pytest.fail(f"{words}: the command does not take it")


@each
def test_targets_of_make_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {words.split()[1] for words in quoted(document) if re.match(r"make [a-z]", words)}
    assert named <= targets
