"""Layers as import-linter's contract in pyproject.toml has them, for what it cannot see: rooms that are named by strings.

Django and Celery take modules, templates, URLs and models by name. A string that names a room above its own module's layer is a
dependency upwards, just as an import would be. Only the composition root may name every room.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.apps import apps

from tests.conftest import ROOT

COMPOSITION_ROOT = {"techmarket.settings", "techmarket.urls", "techmarket.roles"}  # each lists what all rooms have
MODULE = re.compile(r"\b(?:apps|techmarket)(?:\.[a-z_]\w*)+")
TEMPLATE = re.compile(r"([a-z_]+)/[\w/]+\.html")
MODEL_OR_PERMISSION = re.compile(r"([a-z_]+)\.[A-Za-z_]+")
ADMIN_URL = re.compile(r"admin:\w*")


@cache
def read_layers() -> list[list[str]]:
    """Return the rooms of each layer, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]


def find_room(module: str) -> str | None:
    """Return the room that holds a module, or None where it is in none, such as `apps` itself."""
    rooms = [room for layer in read_layers() for room in layer if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len, default=None)


def layer_of(room: str) -> int:
    """Return the number of the room's layer, 0 for the highest."""
    return next(number for number, layer in enumerate(read_layers()) if room in layer)


def find_room_of_label(label: str) -> str | None:
    return find_room(apps.get_app_config(label).name) if label in apps.app_configs else None


def rooms_named_by(text: str) -> Iterator[str]:
    """Yield the rooms of the modules in `text`, and of the template, model, permission or URL that `text` as a whole names."""
    named = [find_room(module) for module in MODULE.findall(text)]
    if found := TEMPLATE.fullmatch(text) or MODEL_OR_PERMISSION.fullmatch(text):
        named.append(find_room_of_label(found[1]))
    if ADMIN_URL.match(text):
        named.append("apps.console")  # it registers every page of the admin
    yield from (room for room in named if room)


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the string constants, parts of f-strings included, without docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def find_upward_names(module: str, source: str) -> list[str]:
    """Return a line for each string of the module that names a room above its layer, or beside it in the same layer."""
    room = find_room(module)
    if room is None or module in COMPOSITION_ROOT:
        return []
    return [
        f"{module}:{node.lineno} names {other}: {node.value!r}"
        for node in strings(ast.parse(source))
        for other in rooms_named_by(str(node.value))
        if other != room and layer_of(other) <= layer_of(room)
    ]


def modules() -> dict[str, Path]:
    files = [path.relative_to(ROOT) for top in ("techmarket", "apps") for path in (ROOT / top).rglob("*.py")]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): ROOT / path for path in files}


def test_no_string_names_a_higher_room() -> None:
    found = [line for module, path in modules().items() for line in find_upward_names(module, path.read_text())]
    assert not found, "\n".join(found)


def test_every_module_is_in_a_room() -> None:
    assert [module for module in modules() if find_room(module) is None] == ["apps"]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("techmarket.logs", 'RUNS = "apps.orchestration.worker.loop"'),
        ("techmarket.celery", 'f"{where} apps.orchestration.worker.tasks"'),
        ("apps.etl.extract", 'import_module("apps.orchestration.planning")'),
        ("apps.monitoring.metrics", 'include("apps.console.urls")'),
        ("apps.orchestration.api", 'render(request, "console/runs/start.html")'),
        ("apps.warehouse.kpis", 'reverse("admin:dwh_factsales_changelist")'),
        ("apps.warehouse.kpis", "reverse(f'admin:dwh_{name}_changelist')"),
        ("apps.warehouse.loads", 'ForeignKey("orchestration.Run")'),
        ("apps.etl.checks", 'user.has_perm("orchestration.view_run")'),
    ],
)
def test_planted_string_is_found(module: str, code: str) -> None:
    (line,) = find_upward_names(module, code)
    assert line.startswith(f"{module}:1 names apps.")


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("techmarket.settings", 'CELERY_IMPORTS = ["apps.orchestration.worker.tasks"]'),
        ("apps.console.runs", '"apps.orchestration.models"'),
        ("apps.etl.tables", '"Bring apps/etl/tables.py in step"'),
        ("apps.etl.tables", '"""As apps.orchestration.planning wants them."""'),
        ("apps.orchestration.models", '"orchestration.Run"'),
        ("apps.orchestration.tasks", 'shared_task(name="techmarket.plan")'),
    ],
)
def test_string_that_names_no_higher_room(module: str, code: str) -> None:
    assert find_upward_names(module, code) == []
