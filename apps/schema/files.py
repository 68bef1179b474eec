"""The files that are generated from the models: rendering, comparing and writing them."""

from pathlib import Path

from apps.schema.dbml import render_dbml
from apps.schema.dictionary import render_dictionary
from apps.schema.plantuml import render_plantuml
from apps.schema.sql import render_sql
from apps.schema.svg import render_svg
from apps.schema.tables import Database, describe_databases


def render_files() -> dict[str, str]:
    """Return the text of each file by its path below the project's folder."""
    databases = describe_databases()
    rendered = {path: text for database in databases for path, text in render_database_files(database).items()}
    return rendered | {"docs/DATA_DICTIONARY.md": render_dictionary(databases)}


def render_database_files(database: Database) -> dict[str, str]:
    return {
        f"docs/db/{database.file_name}.dbml": render_dbml(database),
        f"docs/er/{database.file_name}.puml": render_plantuml(database),
        f"docs/images/er-{database.short_name}.svg": render_svg(database),
        f"deploy/{database.sql_path}": render_sql(database),
    }


def find_stale_files(folder: Path) -> list[str]:
    """Return the paths of files that are missing below `folder` or differ from what would be rendered."""
    return [path for path, text in render_files().items() if not is_current(folder / path, text)]


def is_current(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()


def write_stale_files(folder: Path) -> list[str]:
    """Write the files that are stale and return their paths. Raises OSError."""
    written = []
    for path, text in render_files().items():
        if not is_current(folder / path, text):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
            written.append(path)
    return written
