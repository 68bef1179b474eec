"""The tables in DBML, for dbdiagram.io and `dbml2sql`."""

from collections.abc import Iterator

from apps.schema.tables import Column, Database, Table


def render_dbml(database: Database) -> str:
    kind = "PostgreSQL" if database.is_warehouse else "MySQL"
    head = [
        "// Generated from the models by `manage.py export_schema`.",
        f"Project {database.file_name} {{",
        f"  database_type: '{kind}'",
        f"  Note: {quote_text(database.description)}",
        "}",
        "",
    ]
    references = [line for table in database.tables for line in render_references(table)]
    return "\n".join([*head, *("\n".join(render_table(table)) for table in database.tables), *references, ""])


def render_table(table: Table) -> Iterator[str]:
    yield f"Table {table.name} {{"
    yield from (f"  {render_column(column)}" for column in table.columns)
    yield f"  Note: {quote_text(table.description)}"
    if table.uniques:
        yield "  indexes {"
        yield from (f"    ({', '.join(columns)}) [unique]" for columns in table.uniques)
        yield "  }"
    yield "}"
    yield ""


def render_column(column: Column) -> str:
    kind = column.type.replace(", ", ",")
    settings = [
        *(["pk"] if column.primary else []),
        *(["increment"] if column.auto_increment else []),
        *(["unique"] if column.unique else []),
        "null" if column.null else "not null",
        *([f"default: `{column.default}`"] if column.default else []),
        f"note: {quote_text(column.description)}",
    ]
    return f"{column.name} {kind} [{', '.join(settings)}]"


def render_references(table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.references:
            to, key = column.references
            referencing, referenced = f"{table.name}.{column.name}", f"{to}.{key}"
            # In a one-to-one reference DBML puts the foreign key on the side that is written second.
            yield f"Ref: {referenced} - {referencing}" if column.unique else f"Ref: {referencing} > {referenced}"


def quote_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
