"""`python -m tests.refusals`: run every case and print the table; exit code 1 if one is not refused as its row promises."""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tests.refusals.case import Case, Kind, Result
from tests.refusals.cases import CASES
from tests.refusals.stage import Stage, find_faults

CASES_AT_ONCE = 2
WIDTH = 180  # columns, where no terminal says


def main() -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        stage.prepare()
        try:
            with ThreadPoolExecutor(CASES_AT_ONCE) as pool:
                results = list(pool.map(stage.run, CASES))
        finally:
            stage.close()
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    faults = [find_faults(case, result) for case, result in zip(CASES, results, strict=True)]
    for kind in Kind:
        console.print(build_table(kind, [row for row in zip(CASES, results, faults, strict=True) if row[0].kind == kind]))
    bad = sum(map(bool, faults))
    console.print(f"{len(CASES)} bad inputs and environments, {bad} not refused as promised; {time.monotonic() - began:.0f} s.")
    return 1 if bad else 0


def build_table(kind: Kind, rows: list[tuple[Case, Result, list[str]]]) -> Table:
    table = Table("what", "where", Column("code", justify="right"), "sentence", "", title=f"{kind} ({len(rows)})", title_justify="left")
    for case, result, faults in rows:
        answer = case.text if kind == Kind.PAGE else result.err
        verdict = f"[red]{escape(', '.join(faults))}[/red]" if faults else "[green]refused[/green]"
        table.add_row(*(escape(shorten(text)) for text in (case.what, case.where, str(result.code), answer)), verdict)
    return table


def shorten(text: str, longest: int = 200) -> str:
    """Return one printable line."""
    line = " ".join(text.encode(errors="backslashreplace").decode().split())
    return line if len(line) <= longest else f"{line[:longest]}..."


if __name__ == "__main__":
    sys.exit(main())
