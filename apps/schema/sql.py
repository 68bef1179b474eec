"""The tables as CREATE TABLE statements, as the migrations create them, formatted for a database administrator to read."""

from collections.abc import Iterator
from textwrap import wrap

from apps.etl.tables import FACTS
from apps.schema.tables import Column, Database, Table
from apps.warehouse.kpi_sql import View
from apps.warehouse.partition import create_only_partition, partition_by_range

WIDTH = 130
HEAD = """\
-- {description} For {product}.
-- Generated from the models by `manage.py export_schema`, for reading. Create the tables with `manage.py migrate_all`,
-- which records the migrations that it has applied.
"""


def render_sql(database: Database) -> str:
    head = HEAD.format(description=database.description, product=database.product)
    tables = ("\n".join(render_table(table, database)) for table in database.tables)
    return "\n".join([head, *tables, *("\n".join(render_view(view)) for view in database.views)])


def render_table(table: Table, database: Database) -> Iterator[str]:
    yield from (f"-- {line}" for line in wrap(table.description, WIDTH))
    yield f"CREATE TABLE {database.quote_name(table.name)} ("
    width = max(len(column.name) for column in table.columns) + 2
    lines = [render_column(column, database, width) for column in table.columns] + [(clause, "") for clause in table.clauses]
    if table.partitioned:
        lines = [(definition.replace(" PRIMARY KEY", ""), comment) for definition, comment in lines]
        lines.append((f"CONSTRAINT {table.name}_pkey PRIMARY KEY ({', '.join(partition_columns(table))})", ""))
    for number, (definition, comment) in enumerate(lines, 1):
        comma = "," if number < len(lines) else ""
        yield f"    {definition}{comma}{comment}"
    yield f") {partition_by_range(database.quote_name(table.key))};" if table.partitioned else ");"
    if table.partitioned:
        yield f"{create_only_partition(table.name)};"
    yield from (f"{index};" for index in table.indexes)
    yield ""


def partition_columns(table: Table) -> tuple[str, ...]:
    """Return the columns of a partitioned table's primary key: its own key, and the one by whose ranges its partition is partitioned."""
    return table.key, next(fact.sliced_by for fact in FACTS if fact.table == table.name)


def render_view(view: View) -> Iterator[str]:
    yield f"{view.create};"
    yield from (f"{comment};" for comment in view.comments())
    yield ""


def render_column(column: Column, database: Database, width: int) -> tuple[str, str]:
    """Return the column's definition and a comment with its meaning."""
    values = f" ({' | '.join(column.values)})" if column.values else ""
    return f"{database.quote_name(column.name):<{width}} {column.definition}", f"  -- {column.description}{values}"
