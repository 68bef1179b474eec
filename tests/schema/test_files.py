"""The files generated from the models are up to date, describe every column, and are valid for the programs that read them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.utils.translation import override

from apps.schema.columns import EXAMPLES, SOURCES, get_example, get_source
from apps.schema.files import find_stale_files, render_files
from apps.schema.layout import arrange_diagram
from apps.schema.tables import Column, Database, Table, describe_databases
from tests.conftest import PASSED_ON, ROOT, require_program

DATABASES = describe_databases()
COLUMNS = {
    f"{database.alias}.{table.name}.{column.name}" for database in DATABASES for table in database.tables for column in table.columns
}
BOOLEANS = ("true", "false")
for_each_database = pytest.mark.parametrize("database", DATABASES, ids=lambda database: database.alias)


def test_committed_files_are_up_to_date() -> None:
    """The active language makes no difference."""
    with override("uk"):
        assert find_stale_files(ROOT) == [], "run `manage.py export_schema`"


def export(project: Path, *arguments: str, seed: str = "1") -> "subprocess.CompletedProcess[str]":
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"VAR_DIR": str(project), "ENV_FILE": os.devnull}
    command = [sys.executable, "manage.py", "export_schema", *arguments]
    return subprocess.run(command, cwd=project, env=env | {"PYTHONHASHSEED": seed}, capture_output=True, text=True)


def test_changed_model_fails_the_check_until_exported(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("apps", "techmarket", "docs", "deploy"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    assert export(project, "--check").returncode == 0
    model = project / "apps" / "sources" / "payments" / "models.py"
    model.write_text(
        re.sub(r"( +)order_id = ", r'\1currency = models.CharField(max_length=3, help_text="ISO 4217")\n\g<0>', model.read_text())
    )
    check = export(project, "--check")
    assert check.returncode == 1 and check.stdout == "" and check.stderr.count("\n") == 1
    assert "deploy/mysql/04_payments.sql" in check.stderr and "export_schema" in check.stderr and "orders" not in check.stderr
    written = export(project, seed="2")
    assert written.returncode == 0 and "docs/db/payments_mysql.dbml" in written.stdout, written.stderr
    assert export(project, "--check", seed="3").returncode == 0
    (project / "docs" / "er" / "auth_mysql.puml").unlink()
    assert "docs/er/auth_mysql.puml" in export(project, "--check").stderr


def test_make_check_runs_the_check() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "export_schema --check" in recipe


@for_each_database
def test_every_table_and_column_has_a_description_and_a_valid_example(database: Database) -> None:
    for model, table in zip(apps.get_app_config(database.alias).get_models(), database.tables, strict=True):
        assert table.description and not table.description.startswith(f"{model.__name__}("), f"{table.name}: the model needs a docstring"
        for field, column in zip(model._meta.local_concrete_fields, table.columns, strict=True):
            assert column.description, f"{table.name}.{column.name}: the field needs a help_text"
            example = get_example(table, column)
            assert example, f"{table.name}.{column.name}: apps/schema/columns.py needs an example"
            try:
                value = (field.target_field if field.remote_field else field).to_python(example.title() if example in BOOLEANS else example)
                assert not field.choices or value in column.values, f"{table.name}.{column.name}: {example}"
                assert not field.max_length or len(example.replace("-", "")) <= field.max_length
            except ValidationError:
                pytest.fail(f"{table.name}.{column.name} cannot hold {example}")


def test_examples_and_sources_name_existing_columns() -> None:
    tables = {name.partition(".")[2] for name in COLUMNS}
    names = {name.rpartition(".")[2] for name in COLUMNS}
    assert not [name for name in EXAMPLES if name not in tables | names]
    assert not [name for name in SOURCES if name not in tables]


def test_source_columns_exist() -> None:
    warehouse = DATABASES[-1]
    sources = {get_source(warehouse, table, column) for table in warehouse.tables for column in table.columns}
    named = {name for source in sources for name in re.findall(r"\w+_db\.\w+\.\w+", source)}
    assert len(named) > 25 and named <= COLUMNS
    assert get_source(warehouse, *find_column("dim_region", "code")) == "orders_db.regions.code"
    assert get_source(warehouse, *find_column("fact_sales", "product_key")) == "orders_db.order_items.product_id"
    assert get_source(warehouse, *find_column("dim_region", "is_deleted")) == "the ETL"


def find_column(table_name: str, column_name: str) -> tuple[Table, Column]:
    table = next(table for table in DATABASES[-1].tables if table.name == table_name)
    return table, next(column for column in table.columns if column.name == column_name)


# --- Diagrams ---


@for_each_database
def test_diagram_fits_a_screen_and_tables_do_not_overlap(database: Database) -> None:
    diagram = arrange_diagram(database)
    assert diagram.width <= 1440 and diagram.height <= 910
    boxes = diagram.nodes
    for number, one in enumerate(boxes):
        assert one.x >= 0 and one.x + one.width <= diagram.width and one.y >= 0 and one.y + one.height <= diagram.height
        for other in boxes[:number]:
            apart = one.x + one.width <= other.x or other.x + other.width <= one.x or one.y + one.height <= other.y
            assert apart or other.y + other.height <= one.y, (one.name, other.name)
    ends = sum(1 for bus in diagram.buses for _, _, column in bus.ends if column)
    loops = sum(1 for table in database.tables for column in table.columns if column.references and column.references[0] == table.name)
    assert ends + loops == sum(1 for table in database.tables for column in table.columns if column.references)


@for_each_database
def test_svg_is_xml_with_every_column(database: Database) -> None:
    svg = ElementTree.fromstring(render_files()[f"docs/images/er-{database.short_name}.svg"])
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    for table in database.tables:
        assert table.name in texts and not [column.name for column in table.columns if column.name not in texts]


def test_plantuml_renders_every_file(tmp_path: Path) -> None:
    require_program("dot", "graphviz")
    plantuml = require_program("plantuml", "plantuml")
    sources = sorted((ROOT / "docs" / "er").glob("*.puml"))
    result = subprocess.run([plantuml, "-tsvg", "-o", str(tmp_path), *map(str, sources)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "") and len(sources) == len(DATABASES)
    for database in DATABASES:
        svg = (tmp_path / f"{database.file_name}.svg").read_text()
        assert "Syntax Error" not in svg
        assert not [table.name for table in database.tables if table.name not in svg]
