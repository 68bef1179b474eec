"""The files that are made from the models, and whether they still are what would be made."""

from pathlib import Path

from apps.schema import dbml, dictionary, drawing, plantuml, sql
from apps.schema.tables import Database, described


def files() -> dict[str, str]:
    """By path below the project's folder: the text."""
    databases = described()
    made = {path: text for database in databases for path, text in of(database).items()}
    return made | {"docs/DATA_DICTIONARY.md": dictionary.written(databases)}


def of(database: Database) -> dict[str, str]:
    return {
        f"docs/db/{database.name}.dbml": dbml.written(database),
        f"docs/er/{database.name}.puml": plantuml.written(database),
        f"docs/images/er-{database.short}.svg": drawing.written(database),
        f"deploy/{database.sql}": sql.written(database),
    }


def stale(folder: Path) -> list[str]:
    """Those that are missing below the folder, or are not what would be made."""
    return [path for path, text in files().items() if not same(folder / path, text)]


def same(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()


def write(folder: Path) -> list[str]:
    """Those that were stale. Raises OSError."""
    written = []
    for path, text in files().items():
        if not same(folder / path, text):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
            written.append(path)
    return written
