"""The tables as an entity-relationship diagram for PlantUML."""

from collections.abc import Iterator

from apps.schema.tables import Column, Database, Table

HEAD = """\
@startuml
' Generated from the models by `manage.py export_schema`.
title {title}
hide circle
hide methods
left to right direction
skinparam shadowing false
skinparam backgroundColor white
skinparam class {{
  BackgroundColor white
  BorderColor #64748b
  ArrowColor #64748b
}}
"""


def render_plantuml(database: Database) -> str:
    references = [render_reference(table, column) for table in database.tables for column in table.columns if column.references]
    head = HEAD.format(title=database.description.removesuffix("."))
    return "\n".join([head, *("\n".join(render_table(table)) for table in database.tables), *references, "@enduml", ""])


def render_table(table: Table) -> Iterator[str]:
    yield f'entity "{table.name}" as {table.name} {{'
    yield from (f"  {render_column(column)}" for column in table.columns if column.primary)
    yield "  --"
    yield from (f"  {render_column(column)}" for column in table.columns if not column.primary)
    yield "}"
    yield ""


def render_column(column: Column) -> str:
    """Render one column; an asterisk before the name means NOT NULL."""
    marks = ("<<PK>>" if column.primary else "", "<<FK>>" if column.references else "", "<<unique>>" if column.unique else "")
    return " ".join(filter(None, ("" if column.null else "*", column.name, ":", column.type, *marks)))


def render_reference(table: Table, column: Column) -> str:
    to, _ = column.references or ("", "")
    one = "|o" if column.null else "||"
    many = "o|" if column.unique else "o{"
    return f"{to} {one}--{many} {table.name} : {column.name}"
