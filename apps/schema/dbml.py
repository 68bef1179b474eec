"""The tables in DBML, for dbdiagram.io and `dbml2sql`."""

from collections.abc import Iterator

from apps.schema.tables import Column, Database, Table


def written(database: Database) -> str:
    kind = "PostgreSQL" if database.is_warehouse else "MySQL"
    head = [
        "// Made from the models by `manage.py export_schema`.",
        f"Project {database.name} {{",
        f"  database_type: '{kind}'",
        f"  Note: {text(database.meaning)}",
        "}",
        "",
    ]
    references = [line for table in database.tables for line in foreign(table)]
    return "\n".join([*head, *("\n".join(lines(table)) for table in database.tables), *references, ""])


def lines(table: Table) -> Iterator[str]:
    yield f"Table {table.name} {{"
    yield from (f"  {line(column)}" for column in table.columns)
    yield f"  Note: {text(table.meaning)}"
    if table.uniques:
        yield "  indexes {"
        yield from (f"    ({', '.join(columns)}) [unique]" for columns in table.uniques)
        yield "  }"
    yield "}"
    yield ""


def line(column: Column) -> str:
    kind = column.type.replace(", ", ",")
    settings = [
        *(["pk"] if column.primary else []),
        *(["increment"] if column.automatic else []),
        *(["unique"] if column.unique else []),
        "null" if column.null else "not null",
        *([f"default: `{column.default}`"] if column.default else []),
        f"note: {text(column.meaning)}",
    ]
    return f"{column.name} {kind} [{', '.join(settings)}]"


def foreign(table: Table) -> Iterator[str]:
    for column in table.columns:
        if column.references:
            to, key = column.references
            mine, other = f"{table.name}.{column.name}", f"{to}.{key}"
            # Of one to one, what is written second holds the reference.
            yield f"Ref: {other} - {mine}" if column.unique else f"Ref: {mine} > {other}"


def text(words: str) -> str:
    return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"
