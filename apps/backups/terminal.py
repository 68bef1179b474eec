"""A backup as a person at a terminal sees it."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import FileSizeColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from apps.backups.backup import Listener, silent
from apps.backups.manifest import Manifest
from apps.backups.measure import rows
from apps.orchestration.terminal import console
from techmarket.formats import format_count


@contextmanager
def progress(word: str) -> Iterator[Listener]:
    """One line for each database, on stderr, while it is a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield silent
        return
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description:<24}"), FileSizeColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        lines: dict[str, TaskID] = {}

        def listen(alias: str, count: int) -> None:
            if alias not in lines:
                for task in bars.tasks:  # those before it are done
                    bars.update(task.id, total=task.completed)
                lines[alias] = bars.add_task(f"{word} {alias}", total=None)
            bars.update(lines[alias], advance=count)

        yield listen


def show(held: Manifest) -> None:
    right = (Column(name, justify="right") for name in ("tables", "rows", "bytes"))
    table = Table("database", "server", "file", *right, header_style="bold")
    for alias, dump in held.databases.items():
        table.add_row(
            alias, dump.server, dump.file, format_count(len(dump.tables)), format_count(rows(dump.tables)), format_count(dump.bytes)
        )
    console().print(table)
