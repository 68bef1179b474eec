"""The tables as an entity diagram for PlantUML."""

from collections.abc import Iterator

from apps.schema.tables import Column, Database, Table

HEAD = """\
@startuml
' Made from the models by `manage.py export_schema`.
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


def written(database: Database) -> str:
    relations = [relation(table, column) for table in database.tables for column in table.columns if column.references]
    head = HEAD.format(title=database.meaning.removesuffix("."))
    return "\n".join([head, *("\n".join(lines(table)) for table in database.tables), *relations, "@enduml", ""])


def lines(table: Table) -> Iterator[str]:
    yield f'entity "{table.name}" as {table.name} {{'
    yield from (f"  {line(column)}" for column in table.columns if column.primary)
    yield "  --"
    yield from (f"  {line(column)}" for column in table.columns if not column.primary)
    yield "}"
    yield ""


def line(column: Column) -> str:
    """A star before a name: never NULL."""
    marks = ("<<PK>>" if column.primary else "", "<<FK>>" if column.references else "", "<<unique>>" if column.unique else "")
    return " ".join(filter(None, ("" if column.null else "*", column.name, ":", column.type, *marks)))


def relation(table: Table, column: Column) -> str:
    to, _ = column.references or ("", "")
    one = "|o" if column.null else "||"
    many = "o|" if column.unique else "o{"
    return f"{to} {one}--{many} {table.name} : {column.name}"
