"""Backups on a terminal: progress and the table of a manifest."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import FileSizeColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBars
from rich.table import Column, Table

from apps.backups.backup import Progress, ignore_progress
from apps.backups.description import describe_manifest
from apps.backups.manifest import Manifest
from apps.backups.measure import count_rows
from apps.orchestration.terminal import console
from techmarket.formats import format_count


@contextmanager
def show_progress(verb: str) -> Iterator[Progress]:
    """Show a line for each database on stderr where it is a terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield ignore_progress
        return
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description:<24}"), FileSizeColumn(), TimeElapsedColumn())
    with ProgressBars(*columns, console=screen, transient=True) as bars:
        lines: dict[str, TaskID] = {}

        def advance(alias: str, count: int) -> None:
            if alias not in lines:
                for task in bars.tasks:  # the databases before this one are done
                    bars.update(task.id, total=task.completed)
                lines[alias] = bars.add_task(f"{verb} {alias}", total=None)
            bars.update(lines[alias], advance=count)

        yield advance


def print_manifest(manifest: Manifest) -> None:
    right = (Column(name, justify="right") for name in ("tables", "rows", "bytes"))
    table = Table("database", "server", "file", *right, header_style="bold")
    for alias, dump in manifest.databases.items():
        counts = (len(dump.tables), count_rows(dump.tables), dump.bytes)
        table.add_row(alias, dump.server, dump.file, *map(format_count, counts))
    console().print(table)
    for line in describe_manifest(manifest):
        console().print(line, soft_wrap=True, markup=False)
