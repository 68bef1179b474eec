"""The tables as SQL: what the migrations make, laid out for whoever looks after the server."""

from collections.abc import Iterator
from textwrap import wrap

from apps.schema.tables import Column, Database, Table
from apps.warehouse.kpi_views import View
from apps.warehouse.partition import create_only_partition, partition_by_range

WIDTH = 130
HEAD = """\
-- {meaning} For {product}.
-- Made from the models by `manage.py export_schema`, to be read. The tables themselves are made by `manage.py migrate_all`,
-- which remembers that it did.
"""


def written(database: Database) -> str:
    head = HEAD.format(meaning=database.meaning, product=database.product)
    tables = ("\n".join(statements(table, database)) for table in database.tables)
    return "\n".join([head, *tables, *("\n".join(view_statements(view)) for view in database.views)])


def statements(table: Table, database: Database) -> Iterator[str]:
    yield from (f"-- {words}" for words in wrap(table.meaning, WIDTH))
    yield f"CREATE TABLE {database.quoted(table.name)} ("
    width = max(len(column.name) for column in table.columns) + 2
    lines = [line(column, database, width) for column in table.columns] + [(clause, "") for clause in table.clauses]
    for number, (definition, remark) in enumerate(lines, 1):
        comma = "," if number < len(lines) else ""
        yield f"    {definition}{comma}{remark}"
    yield f") {partition_by_range(database.quoted(table.key))};" if table.partitioned else ");"
    if table.partitioned:
        yield f"{create_only_partition(table.name)};"
    yield from (f"{index};" for index in table.indexes)
    yield ""


def view_statements(view: View) -> Iterator[str]:
    yield f"{view.create};"
    yield from (f"{comment};" for comment in view.comments())
    yield ""


def line(column: Column, database: Database, width: int) -> tuple[str, str]:
    """The column's definition, and what it means as a remark."""
    values = f" ({' | '.join(column.values)})" if column.values else ""
    return f"{database.quoted(column.name):<{width}} {column.definition}", f"  -- {column.meaning}{values}"
