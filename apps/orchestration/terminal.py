"""Show a run in a terminal: progress while it is active, and its results when it has ended."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Task as Bar
from rich.table import Column, Table
from rich.text import Text

from apps.etl.transform.rules import render_label
from apps.orchestration.found import describe_found
from apps.orchestration.models import Run, Stage, State, Task
from apps.orchestration.results import CAUSES, changed_months, document, sum_causes
from apps.orchestration.tally import WRITTEN
from apps.orchestration.worker.loop import Listener, silent
from techmarket.formats import format_count, format_uah

WIDTH = 120  # where the output is not a terminal
SHOWN_REJECTS = 12
SHOWN_MONTHS = 12


class Screen(Console):
    def on_broken_pipe(self) -> None:
        """Raise instead of exiting with 1, as rich does: the command decides what a closed pipe means."""
        raise BrokenPipeError


def console(stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    return Screen(file=stream, width=None if stream.isatty() else WIDTH, highlight=False)


class Speed(ProgressColumn):
    def render(self, task: Bar) -> Text:
        rows = task.fields["rows"]
        speed = f"{format_count(int(rows / task.elapsed))} rows/s" if rows and task.elapsed else ""
        return Text(f"{format_count(rows):>12} rows  {speed}")


@contextmanager
def progress(run: Run, quiet: bool) -> Iterator[Listener]:
    """Show one line for each stage of each table on stderr, if that is a terminal."""
    screen = console(stderr=True)
    if quiet or not screen.is_terminal:
        yield silent
        return
    columns = (SpinnerColumn(), TextColumn("{task.description:<26}"), BarColumn(24), MofNCompleteColumn(), Speed(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        yield Bars(run, bars).listen


class Bars:
    def __init__(self, run: Run, bars: Progress):
        self.run = run
        self.bars = bars
        self.lines: dict[tuple[str, str], Any] = {}

    def listen(self, task: Task, rows: int, ended: bool) -> None:
        line = self.line(task)
        bar = self.bars.tasks[self.bars.task_ids.index(line)]
        self.bars.update(line, rows=bar.fields["rows"] + rows, advance=1 if ended else 0)

    def line(self, task: Task) -> Any:
        """Return the line of this task's stage and table; its length is the number of slices."""
        key = (task.stage, task.subject)
        if key not in self.lines:
            slices = self.run.tasks.filter(stage=task.stage, subject=task.subject).count()
            name = f"{task.stage} {task.subject}" if task.stage != Stage.LOAD else "load and check"
            self.lines[key] = self.bars.add_task(name, total=slices, rows=0)
        return self.lines[key]


def show(run: Run) -> None:
    """Print the row counts, the checks, the rejects, and how the run ended."""
    result = document(run)
    screen = console()
    screen.print(headline(run))
    if found := describe_found(run):
        screen.print(f"Orders read: {found}.")
    if result["tables"]:
        screen.print(ledger(result["tables"], result["sources"]))
    show_checks(screen, result["checks"])
    show_rejects(screen, result["rejects"])
    for part in net_change(run, result):
        screen.print(part)
    screen.print(closing(run, result))


def headline(run: Run) -> str:
    window = ""
    if run.window_start:
        end = f"to {run.window_end:%Y-%m-%d %H:%M}" if run.window_end else "to now"
        window = f", changes from {run.window_start:%Y-%m-%d %H:%M} {end} UTC"
    return f"[bold]Run {run.pk}[/bold]: {run.mode}{' (dry run)' if run.dry_run else ''}{window}"


def ledger(tables: Mapping[str, Mapping[str, int]], sources: Mapping[str, Mapping[str, int]]) -> Table:
    names = ("read", "inserted", "updated", "unchanged", "deleted", "filtered", "rejected")
    table = Table("table", *(Column(name, justify="right") for name in names), header_style="bold")
    for name, row in tables.items():
        table.add_row(name, *(cell(row[column], column) for column in names))
    table.add_section()
    for name, row in sources.items():
        used = {"read": row["read"], "unchanged": None, "filtered": row["filtered"], "rejected": row["rejected"]}
        table.add_row(f"[dim]{name} (lookup)[/dim]", *(cell(used.get(column), column) for column in names))
    return table


def cell(count: int | None, column: str) -> str:
    if count is None:
        return ""
    if not count:
        return "[dim]0[/dim]"
    return f"[red]{format_count(count)}[/red]" if column == "rejected" else format_count(count)


def show_checks(screen: Console, checks: list[dict[str, Any]]) -> None:
    failed = [check for check in checks if not check["passed"]]
    if checks:
        screen.print(f"Checks: {len(checks) - len(failed)} of {len(checks)} passed.")
    for check in failed:
        word = "[red]blocking[/red]" if check["blocking"] else "[yellow]warning[/yellow]"
        screen.print(f"  {word} {check['table']}: {check['name']}: expected {check['expected']}, observed {check['observed']}")


def show_rejects(screen: Console, rejects: list[dict[str, Any]]) -> None:
    for reject in rejects[:SHOWN_REJECTS]:
        rows = "1 row" if reject["rows"] == 1 else f"{format_count(reject['rows'])} rows"
        rows += f" ({format_uah(Decimal(reject['amount']))} UAH)" if reject["amount"] else ""
        why = f"{render_label(reject['rule'])}: {reject['reason']}"
        screen.print(f"  [red]rejected[/red] {reject['table']}: {rows}, {why} (first: {reject['first']})")
    if len(rejects) > SHOWN_REJECTS:
        screen.print(f"  and {len(rejects) - SHOWN_REJECTS} more kinds; all are in the admin and in --json")


def net_change(run: Run, result: Mapping[str, Any]) -> Iterator[Table | str]:
    """Yield net revenue before and after by month, and the change by cause."""
    months = changed_months(result)
    published = run.state == State.SUCCEEDED and not run.dry_run
    if not months and run.state == State.SUCCEEDED:
        yield f"Net revenue {'stays' if published else 'would stay'} as it is in every month."
    if not months:
        return
    titles = ("net before, UAH" if published else "net now, UAH", "net after, UAH" if published else "net then, UAH", "change")
    table = Table("month", *(Column(title, justify="right") for title in titles), header_style="bold")
    for month, before, after, change in months[-SHOWN_MONTHS:]:
        table.add_row(month, format_uah(before), format_uah(after), format_uah(change, "+"))
    if len(months) > SHOWN_MONTHS:
        yield f"Net revenue by month: the last {SHOWN_MONTHS} of {len(months)} that change; all are in the admin and in --json."
    yield table
    causes = (f"{CAUSES[each.cause].lower()} {format_uah(each.net, '+')} ({count_lines(each.lines)})" for each in sum_causes(result))
    yield f"Net revenue by cause, UAH: {', '.join(causes)}."


def count_lines(count: int) -> str:
    return "1 line" if count == 1 else f"{format_count(count)} lines"


def closing(run: Run, result: Mapping[str, Any]) -> str:
    written = sum(row[name] for row in result["tables"].values() for name in WRITTEN)
    seconds = f"{result['seconds']:.1f} s" if result["seconds"] is not None else "no time"
    if run.dry_run:
        return f"{format_count(written)} rows would be written; the warehouse is as it was. {seconds}."
    return f"[green]{run.state}[/green]: {format_count(written)} rows written in {seconds}."
