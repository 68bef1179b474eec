"""What is made from the models is committed as it would be made, says something of every column, and can be read by those it is for."""

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

from apps.schema.columns import EXAMPLES, ORIGINS, example, origin
from apps.schema.files import files, stale
from apps.schema.layout import arranged
from apps.schema.tables import Database, described
from tests.conftest import PASSED_ON, ROOT, needed

DATABASES = described()
COLUMNS = {
    f"{database.alias}.{table.name}.{column.name}" for database in DATABASES for table in database.tables for column in table.columns
}
FLAGS = ("true", "false")
each = pytest.mark.parametrize("database", DATABASES, ids=lambda database: database.alias)


def test_committed_files_are_those_that_would_be_made() -> None:
    """In every language: what is written does not depend on who runs it."""
    with override("uk"):
        assert stale(ROOT) == [], "run `manage.py export_schema`"


def export(project: Path, *arguments: str, seed: str = "1") -> "subprocess.CompletedProcess[str]":
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"VAR_DIR": str(project), "ENV_FILE": os.devnull}
    command = [sys.executable, "manage.py", "export_schema", *arguments]
    return subprocess.run(command, cwd=project, env=env | {"PYTHONHASHSEED": seed}, capture_output=True, text=True)


def test_a_change_of_a_model_fails_the_gate_until_it_is_exported(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("apps", "techmarket", "docs", "deploy"):
        shutil.copytree(ROOT / name, project / name)
    shutil.copy(ROOT / "manage.py", project)
    assert export(project, "--check").returncode == 0
    model = project / "apps" / "sources" / "payments" / "models.py"
    model.write_text(
        re.sub(r"( +)order_id = ", r'\1currency = models.CharField(max_length=3, help_text="ISO 4217")\n\g<0>', model.read_text())
    )
    refused = export(project, "--check")
    assert refused.returncode == 1 and refused.stdout == "" and refused.stderr.count("\n") == 1
    assert "deploy/mysql/04_payments.sql" in refused.stderr and "export_schema" in refused.stderr and "orders" not in refused.stderr
    written = export(project, seed="2")
    assert written.returncode == 0 and "docs/db/payments_mysql.dbml" in written.stdout, written.stderr
    assert export(project, "--check", seed="3").returncode == 0
    (project / "docs" / "er" / "auth_mysql.puml").unlink()
    assert "docs/er/auth_mysql.puml" in export(project, "--check").stderr


def test_the_gate_asks() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "export_schema --check" in recipe


@each
def test_every_table_and_column_has_a_meaning_and_an_example_that_it_could_hold(database: Database) -> None:
    for model, table in zip(apps.get_app_config(database.alias).get_models(), database.tables, strict=True):
        assert table.meaning and not table.meaning.startswith(f"{model.__name__}("), f"{table.name}: the model needs a docstring"
        for field, column in zip(model._meta.local_concrete_fields, table.columns, strict=True):
            assert column.meaning, f"{table.name}.{column.name}: the field needs a help_text"
            shown = example(table, column)
            assert shown, f"{table.name}.{column.name}: apps/schema/columns.py needs an example"
            try:
                value = (field.target_field if field.remote_field else field).to_python(shown.title() if shown in FLAGS else shown)
                assert not field.choices or value in column.values, f"{table.name}.{column.name}: {shown}"
                assert not field.max_length or len(shown.replace("-", "")) <= field.max_length
            except ValidationError:
                pytest.fail(f"{table.name}.{column.name} could not hold {shown}")


def test_no_example_and_no_origin_is_of_a_column_that_is_no_more() -> None:
    tables = {name.partition(".")[2] for name in COLUMNS}
    names = {name.rpartition(".")[2] for name in COLUMNS}
    assert not [name for name in EXAMPLES if name not in tables | names]
    assert not [name for name in ORIGINS if name not in tables]


def test_columns_that_are_named_as_origins_exist() -> None:
    warehouse = DATABASES[-1]
    said = {origin(warehouse, table, column) for table in warehouse.tables for column in table.columns}
    named = {name for words in said for name in re.findall(r"\w+_db\.\w+\.\w+", words)}
    assert len(named) > 25 and named <= COLUMNS
    assert origin(warehouse, *found("dim_region", "code")) == "orders_db.regions.code"
    assert origin(warehouse, *found("fact_sales", "product_key")) == "orders_db.order_items.product_id"
    assert origin(warehouse, *found("dim_region", "is_deleted")) == "the ETL"


def found(table: str, column: str) -> tuple:  # type: ignore[type-arg]
    chosen = next(each for each in DATABASES[-1].tables if each.name == table)
    return chosen, next(each for each in chosen.columns if each.name == column)


# --- Pictures ---


@each
def test_a_picture_fits_a_screen_and_no_two_tables_touch(database: Database) -> None:
    diagram = arranged(database)
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


@each
def test_a_picture_is_xml_with_every_column(database: Database) -> None:
    picture = ElementTree.fromstring(files()[f"docs/images/er-{database.short}.svg"])
    words = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    for table in database.tables:
        assert table.name in words and not [column.name for column in table.columns if column.name not in words]


def test_plantuml_draws_every_file(tmp_path: Path) -> None:
    needed("dot", "graphviz")
    plantuml = needed("plantuml", "plantuml")
    sources = sorted((ROOT / "docs" / "er").glob("*.puml"))
    result = subprocess.run([plantuml, "-tsvg", "-o", str(tmp_path), *map(str, sources)], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "") and len(sources) == len(DATABASES)
    for database in DATABASES:
        drawn = (tmp_path / f"{database.name}.svg").read_text()
        assert "Syntax Error" not in drawn
        assert not [table.name for table in database.tables if table.name not in drawn]
