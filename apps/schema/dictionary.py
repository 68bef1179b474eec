"""The data dictionary in Markdown: every table and column with its meaning, unit, source and example."""

from collections.abc import Iterator, Sequence

from apps.schema.columns import get_example, get_source, get_unit
from apps.schema.tables import Column, Database, Table
from apps.warehouse.kpi_sql import View

HEAD = """\
# Data dictionary

Every table and column of the four sources and of the warehouse. Generated from the models by `manage.py export_schema`: do not edit it.

Timestamps are in UTC; days are those of the shop's calendar (Kyiv). Money is in UAH, exact to the kopiyka. *nullable*: the column may be
NULL. Under *source*, *the shop* is the service that owns the table; *the database*: the server fills the column; *the ETL*: a run fills
it; a column of another table: the value is copied or computed from it. Examples are invented.
"""
COLUMNS = ("column", "type", "meaning", "unit", "source", "example")


def render_dictionary(databases: Sequence[Database]) -> str:
    contents = "\n".join(f"- [{database.alias}](#{database.alias}): {', '.join(map(link, names(database)))}" for database in databases)
    return "\n".join([HEAD, contents, "", *("\n".join(render_database(database)) for database in databases)])


def names(database: Database) -> list[str]:
    return [*(table.name for table in database.tables), *(view.name for view in database.views)]


def link(name: str) -> str:
    return f"[{name}](#{name})"


def render_database(database: Database) -> Iterator[str]:
    yield f"## {database.alias}"
    yield ""
    description = database.description.removeprefix(f"{database.alias}: ")
    yield f"{description[0].upper()}{description[1:]} {database.product}."
    links = {"PlantUML": f"er/{database.file_name}.puml", "DBML": f"db/{database.file_name}.dbml", "SQL": f"../deploy/{database.sql_path}"}
    yield f"Also available as {', '.join(f'[{name}]({path})' for name, path in links.items())}."
    yield ""
    yield f"![Entity-relationship diagram of {database.alias}](images/er-{database.short_name}.svg)"
    yield ""
    for table in database.tables:
        yield from render_table(table, database)
    for view in database.views:
        yield from render_view(view)


def render_table(table: Table, database: Database) -> Iterator[str]:
    yield f"### {table.name}"
    yield ""
    yield table.description
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    for column in table.columns:
        cells = (
            f"`{column.name}`",
            describe_type(column),
            describe_values(column),
            get_unit(column),
            get_source(database, table, column),
            format_code(get_example(table, column)),
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
    for columns in table.uniques:
        yield f"Unique together: {', '.join(f'`{name}`' for name in columns)}."
        yield ""


def render_view(view: View) -> Iterator[str]:
    yield f"### {view.name}"
    yield ""
    yield f"A view of the KPIs ([SQL](../apps/warehouse/kpi_sql.py)). {view.comment}"
    yield ""
    yield "| column | meaning |"
    yield "| --- | --- |"
    yield from (f"| `{column}` | {meaning} |" for column, meaning in view.columns.items())
    yield ""


def format_code(text: str) -> str:
    return f"`{text}`" if text else ""


def describe_type(column: Column) -> str:
    traits = ("key" if column.primary else "", "unique" if column.unique else "", "nullable" if column.null else "")
    return ", ".join(filter(None, (column.type, *traits)))


def describe_values(column: Column) -> str:
    """Return the column's description with its allowed values and the table that it references."""
    parts = [column.description]
    if column.values:
        parts.append(f"one of {', '.join(f'`{value}`' for value in column.values)}")
    if column.references:
        parts.append(f"references [{column.references[0]}](#{column.references[0]})")
    return "; ".join(parts)
