"""Every table and column with its meaning, unit, source and example, in Markdown."""

from collections.abc import Iterator, Sequence

from apps.schema.columns import example, origin, unit
from apps.schema.tables import Column, Database, Table
from apps.warehouse.kpi_views import View

HEAD = """\
# The data dictionary

Every table and column of the four sources and of the warehouse. Made from the models by `manage.py export_schema`; do not edit it by hand.

Instants are kept in UTC; days are those of the shop's calendar, in Kyiv. Money is UAH, exact to the kopiyka. *may be empty* is NULL.
A source *the shop* means the service that owns the table; *the database*, that the server fills the column by itself; *the ETL*, that a
run does. A column of another table: it is taken or made from there. Examples are made up.
"""
COLUMNS = ("column", "type", "meaning", "unit", "source", "example")


def written(databases: Sequence[Database]) -> str:
    contents = "\n".join(f"- [{database.alias}](#{database.alias}): {', '.join(map(link, names(database)))}" for database in databases)
    return "\n".join([HEAD, contents, "", *("\n".join(section(database)) for database in databases)])


def names(database: Database) -> list[str]:
    return [*(table.name for table in database.tables), *(view.name for view in database.views)]


def link(name: str) -> str:
    return f"[{name}](#{name})"


def section(database: Database) -> Iterator[str]:
    yield f"## {database.alias}"
    yield ""
    meaning = database.meaning.removeprefix(f"{database.alias}: ")
    yield f"{meaning[0].upper()}{meaning[1:]} {database.product}."
    links = {"PlantUML": f"er/{database.name}.puml", "DBML": f"db/{database.name}.dbml", "SQL": f"../deploy/{database.sql}"}
    yield f"The same as {', '.join(f'[{name}]({path})' for name, path in links.items())}."
    yield ""
    yield f"![The tables of {database.alias} and how they hang together](images/er-{database.short}.svg)"
    yield ""
    for table in database.tables:
        yield from of(table, database)
    for view in database.views:
        yield from describe_view(view)


def of(table: Table, database: Database) -> Iterator[str]:
    yield f"### {table.name}"
    yield ""
    yield table.meaning
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    for column in table.columns:
        cells = (
            f"`{column.name}`",
            kind(column),
            meaning(column),
            unit(column),
            origin(database, table, column),
            code(example(table, column)),
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""
    for columns in table.uniques:
        yield f"Unique together: {', '.join(f'`{name}`' for name in columns)}."
        yield ""


def describe_view(view: View) -> Iterator[str]:
    yield f"### {view.name}"
    yield ""
    yield f"A view of the KPIs ([SQL](../apps/warehouse/kpi_views.py)). {view.comment}"
    yield ""
    yield "| column | meaning |"
    yield "| --- | --- |"
    yield from (f"| `{column}` | {words} |" for column, words in view.columns.items())
    yield ""


def code(words: str) -> str:
    return f"`{words}`" if words else ""


def kind(column: Column) -> str:
    traits = ("key" if column.primary else "", "unique" if column.unique else "", "may be empty" if column.null else "")
    return ", ".join(filter(None, (column.type, *traits)))


def meaning(column: Column) -> str:
    """With what it may hold, and the table that it references."""
    said = [column.meaning]
    if column.values:
        said.append(f"one of {', '.join(f'`{value}`' for value in column.values)}")
    if column.references:
        said.append(f"references [{column.references[0]}](#{column.references[0]})")
    return "; ".join(said)
