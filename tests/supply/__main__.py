"""`make audit`, or `python -m tests.supply [PART...]`: exit code 1 if a finding is not answered, 2 for a part that there is not."""

import argparse
import sys
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.supply import advisories, deployment, licenses, weaknesses
from tests.supply.outcome import Outcome, Unaudited, Verdict

PARTS: dict[str, tuple[str, Callable[[], Outcome]]] = {
    "advisories": ("advisories about locked packages", advisories.audit),
    "code": ("weaknesses in our own code", weaknesses.audit),
    "rules": ("rules for images, Compose and Kubernetes", deployment.audit_rules),
    "pins": ("images pinned to digests", deployment.audit_pins),
    "licenses": ("licenses of what TechMarket runs on", licenses.audit),
}
COLORS = {Verdict.PASSED: "green", Verdict.WARNING: "yellow", Verdict.NOT_AUDITED: "yellow", Verdict.FOUND: "red"}
WIDTH = 180  # columns, where no terminal says


def main() -> int:
    parser = argparse.ArgumentParser(prog="audit", description="Audit what TechMarket is made of.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; default: all")
    names = parser.parse_args().parts or [*PARTS]
    if unknown := sorted({*names} - {*PARTS}):
        print(f"audit: there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    outcomes = {name: run_part(name, console) for name in names}
    for name, outcome in outcomes.items():
        prefix = "finding" if outcome.verdict == Verdict.FOUND else outcome.verdict
        print_lines(console, f"{name}: {PARTS[name][0]}", [*outcome.listing, *(f"{prefix}: {line}" for line in outcome.findings)])
    console.print(build_table(outcomes))
    return 1 if Verdict.FOUND in {outcome.verdict for outcome in outcomes.values()} else 0


def run_part(name: str, console: Console) -> Outcome:
    title, audit = PARTS[name]
    try:
        with console.status(title):
            return audit()
    except Unaudited as reason:
        return Outcome(Verdict.NOT_AUDITED, str(reason))


def print_lines(console: Console, title: str, lines: list[str]) -> None:
    if lines:
        console.print(f"[bold]{title}[/bold]")
        for line in lines:
            console.print(f"  {line}", markup=False, soft_wrap=True)
        console.print()


def build_table(outcomes: dict[str, Outcome]) -> Table:
    table = Table("part", "", "result", "", title="make audit", title_justify="left")
    for name, outcome in outcomes.items():
        color = COLORS[outcome.verdict]
        table.add_row(name, PARTS[name][0], f"[{color}]{outcome.verdict}[/{color}]", escape(outcome.summary))
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
