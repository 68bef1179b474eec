"""`make bench`, or `python tests/servers.py --as-in-production -- python -m tests.bench`: exit code 1 where a target is missed."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import floor, harness, ours, peers
from tests.bench.measure import Cost, Failed, median
from tests.bench.targets import FLOORS, SCALE_TARGETS, TARGETS, Target

ORDERS = 1_000_000
SCALES = (40_000, 400_000, 1_600_000)  # orders, of two and a half lines each
PEERS: dict[str, Callable[[], Cost]] = {
    "pandas": peers.run_pandas,
    "dlt defaults": lambda: peers.run_dlt("defaults"),
    "dlt fast": lambda: peers.run_dlt("fast"),
}


@dataclass(frozen=True)
class Step:
    """A kind of run, after one order in a hundred has changed, or nothing. `sweep_seconds`: its ETL_SWEEP_SECONDS."""

    what: str
    options: tuple[str, ...]
    changes: bool = False
    newest: bool = False
    sweep_seconds: int = 0


STEPS = (
    Step("first full load", ("full",)),
    Step("full, reread", ("full", "--reread")),
    Step("full, nothing changed", ("full",)),
    Step("full, 1 % changed", ("full",), changes=True),
    Step("full, 1 % changed among the newest", ("full",), changes=True, newest=True),
    Step("incremental, 1 % changed", ("incremental",), changes=True),
    Step("incremental, nothing changed", ("incremental",)),
    Step("incremental with a sweep, nothing changed", ("incremental",), sweep_seconds=60),
)
KOPIYKA = "reconcile, one kopiyka moved"
IN_SECONDS = ("incremental, nothing changed", "SQLite, demo shop", "reconcile", KOPIYKA)
DIFFERENT = 6  # exit code of `reconcile`
screen = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
Costs = dict[str, list[Cost]]


def main() -> int:
    options = arguments()
    began = time.monotonic()
    try:
        if options.scale:
            report, missed = measure_scale(options.quick)
        elif options.workers:
            report, missed = measure_workers(options.workers, options.quick)
        else:
            report, missed = compare(options)
    except Failed as error:
        print(f"bench: {error}. Logs: {harness.FOLDER}", file=sys.stderr)
        return 1
    screen.print(f"\nmeasured in {(time.monotonic() - began) / 60:.0f} min on {os.cpu_count()} cores, {report['servers']}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(harness.FOLDER)
    for figure in missed:
        print(f"missed: {figure}", file=sys.stderr)
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size; ratios to the floor are not judged")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds whose medians are reported (default 3)")
    parser.add_argument("--without-peers", action="store_true", help="neither pandas nor dlt, which take five minutes a round")
    parser.add_argument("--scale", action="store_true", help="instead: first loads of 0.1, 1 and 4 million lines")
    parser.add_argument("--workers", type=parse_counts, metavar="1,2", help="instead: a full run on this many Celery workers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report as JSON")
    return parser.parse_args()


def parse_counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


# --- Comparison ---


def compare(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    orders = ORDERS // 10 if options.quick else ORDERS
    log(f"building the shop of {orders:,} orders")
    harness.build_shop(orders)
    costs: Costs = {}
    details: dict[str, Any] = {}
    for round_number in range(options.rounds):
        measure_round(round_number, costs, details)
        if not options.without_peers:
            measure_peers(round_number, costs, details)
    costs["SQLite, demo shop"] = [ours.run_on_sqlite()]
    medians = {what: median(each) for what, each in costs.items()}
    draw_costs(medians, details)
    draw_phases(details.get("phases", {}))
    values = compute_figures(medians)
    # Starting a process takes as long as a tenth of the load, so a ratio to the floor means nothing with --quick.
    judged = [target for target in TARGETS if not (options.quick and target.unit == FLOORS)]
    missed = draw_targets(judged, values)
    return report(details, medians, values), missed


def measure_round(round_number: int, costs: Costs, details: dict[str, Any]) -> None:
    """Measure the floor once, then our kinds of run, each on the state that the one before left."""
    record(round_number, costs, "floor", floor.measure_floor)
    harness.empty_targets()
    for number, step in enumerate(STEPS):
        what = step.what
        harness.age_changes()
        turn = (len(STEPS) * round_number + number) % 100
        changed = harness.change_one_percent(turn, step.newest) if step.changes else 0
        has_statement_stats = ours.reset_statement_stats()
        document = record_run(round_number, costs, step)
        written = ours.count_written(document)
        if what != "first full load" and written > changed:
            raise Failed(f"{what}: {written} rows written where {changed} lines had changed")
        details.setdefault("rows", {})[what] = {"read": document["tables"]["fact_sales"]["read"], "written": written}
        if has_statement_stats:
            details.setdefault("phases", {})[what] = ours.phase_seconds()
            details.setdefault("wal", {})[what] = ours.wal_mb()
    record(round_number, costs, "reconcile", lambda: harness.manage("reconcile", "--quiet"))
    record(round_number, costs, KOPIYKA, find_kopiyka)


def find_kopiyka() -> Cost:
    """Move a kopiyka by hand from one line of an order to another, so that no sum changes, and find both lines."""
    order, one, other = harness.find_two_lines()
    harness.move_kopiyka(one, other)
    cost = harness.manage("reconcile", "--json", code=DIFFERENT)
    harness.move_kopiyka(other, one)
    found = [(each["order"], {line["line"] for line in each["lines"]}) for each in json.loads(cost.output)["orders"]]
    if found != [(order, {one, other})]:
        raise Failed(f"reconcile found {found} where a kopiyka had moved from line {one} of order {order} to line {other}")
    return cost


def record_run(round_number: int, costs: Costs, step: Step) -> dict[str, Any]:
    documents: list[dict[str, Any]] = []

    def run() -> Cost:
        cost, document = ours.run(*step.options, ETL_SWEEP_SECONDS=str(step.sweep_seconds))
        documents.append(document)
        return cost

    record(round_number, costs, step.what, run)
    return documents[0]


def measure_peers(round_number: int, costs: Costs, details: dict[str, Any]) -> None:
    """Measure the peers. One that cannot be installed or run is left out, with a message."""
    for what, peer in PEERS.items():
        if what in details.setdefault("left_out", {}):
            continue
        try:
            record(round_number, costs, what, peer)
        except Failed as error:
            details["left_out"][what] = str(error)
            log(f"{what}: left out: {error}")


def record(round_number: int, costs: Costs, what: str, measure: Callable[[], Cost]) -> None:
    harness.checkpoint()
    cost = measure()
    costs.setdefault(what, []).append(cost)
    log(f"round {round_number + 1}: {what}: {cost.wall:.2f} s, {cost.rss:.0f} MB")


def compute_figures(medians: dict[str, Cost]) -> dict[str, float | None]:
    """Return the measured values of TARGETS."""
    base, first = medians["floor"].wall, medians["first full load"]
    values: dict[str, float | None] = {what: cost.wall if what in IN_SECONDS else cost.wall / base for what, cost in medians.items()}
    values["peak memory"] = max(
        cost.rss for what, cost in medians.items() if what.startswith(("full", "incremental", "first", "reconcile"))
    )
    pandas, dlt = medians.get("pandas"), medians.get("dlt defaults")
    values["pandas, in our first loads"] = pandas.wall / first.wall if pandas else None
    values["memory of pandas"] = pandas.rss / first.rss if pandas else None
    values["dlt defaults, in our first loads"] = dlt.wall / first.wall if dlt else None
    return {target.figure: values.get(target.figure) for target in TARGETS}


# --- Scale and workers ---


def measure_scale(quick: bool) -> tuple[dict[str, Any], list[str]]:
    medians: dict[str, Cost] = {}
    lines: list[int] = []
    for orders in SCALES:
        size = orders // 10 if quick else orders
        log(f"building the shop of {size:,} orders")
        harness.build_shop(size)
        harness.empty_targets()
        harness.checkpoint()
        cost, document = ours.run("full")
        lines.append(document["tables"]["fact_sales"]["read"])
        medians[f"{lines[-1]:,} lines"] = cost
    table = Table("first full load", "s", "s per million lines", "CPU s", "peak MB")
    for count, (what, cost) in zip(lines, medians.items(), strict=True):
        table.add_row(what, f"{cost.wall:.2f}", f"{cost.wall / count * 1e6:.2f}", f"{cost.cpu:.2f}", f"{cost.rss:.0f}")
    screen.print(table)
    _, one, four = medians.values()
    values: dict[str, float | None] = dict(
        zip((target.figure for target in SCALE_TARGETS), (four.wall / one.wall, four.rss / one.rss, four.rss), strict=True)
    )
    return report({}, medians, values), draw_targets(SCALE_TARGETS, values)


def measure_workers(numbers: list[int], quick: bool) -> tuple[dict[str, Any], list[str]]:
    orders = ORDERS // 10 if quick else ORDERS
    log(f"building the shop of {orders:,} orders")
    harness.build_shop(orders)
    medians = {}
    for number in numbers:
        harness.empty_targets()
        harness.checkpoint()
        medians[f"{number} worker{'' if number == 1 else 's'}"] = ours.run_on_workers(number)
    table = Table("first full load, queued", "s", "times as fast")
    alone = next(iter(medians.values())).wall
    for what, cost in medians.items():
        table.add_row(what, f"{cost.wall:.2f}", f"{alone / cost.wall:.2f}")
    screen.print(table)
    return report({}, medians, {}), []


# --- Output ---


def log(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def draw_costs(medians: dict[str, Cost], details: dict[str, Any]) -> None:
    base = medians["floor"].wall
    table = Table("what", "s", "x floor", "client's CPU s", "peak MB", "lines/s", "rows written", "WAL MB: warehouse", "ledger")
    for what, cost in medians.items():
        rows, wal = details["rows"].get(what), details.get("wal", {}).get(what, {})
        table.add_row(
            what,
            f"{cost.wall:.2f}",
            f"{cost.wall / base:.2f}",
            f"{cost.cpu:.1f}",
            f"{cost.rss:.0f}",
            f"{rows['read'] / cost.wall:,.0f}" if rows else "",
            f"{rows['written']:,}" if rows else "",
            *(str(wal.get(name, "")) for name in ("warehouse", "ledger")),
        )
    screen.print(table)


def draw_phases(phases: dict[str, dict[str, float]]) -> None:
    """Print the seconds by phase of the last round. read and transform are sums over parallel tasks; land is part of them."""
    if not phases:
        return
    table = Table("seconds in", *next(iter(phases.values())))
    for what, seconds in phases.items():
        table.add_row(what, *(f"{each:.2f}" for each in seconds.values()))
    screen.print(table)


def draw_targets(targets: Sequence[Target], values: dict[str, float | None]) -> list[str]:
    """Print each figure against its target. Return a line for each that missed it."""
    table = Table("figure", "measured", "target", "", "stretch")
    missed = []
    for target in targets:
        value = values[target.figure]
        bound = f"{'>=' if target.at_least else '<='} {target.at_most:g} {target.unit}"
        table.add_row(target.figure, "" if value is None else f"{value:.2f}", bound, target.verdict(value), target.describe_stretch(value))
        if target.verdict(value) == "missed":
            missed.append(f"{target.figure}: {value:.2f} where {bound} was the target")
    screen.print(table)
    return missed


def report(details: dict[str, Any], medians: dict[str, Cost], values: dict[str, float | None]) -> dict[str, Any]:
    with harness.mysql(os.environ["ORDERS_DB_URL"]) as connection:
        sources = connection.get_server_info()
    [(warehouse,)] = harness.run_sql("DWH_URL", "SHOW server_version")
    costs = {
        what: {"wall_s": round(cost.wall, 3), "cpu_s": round(cost.cpu, 2), "rss_mb": round(cost.rss)} for what, cost in medians.items()
    }
    return {"servers": f"{sources} -> PostgreSQL {warehouse}", "cores": os.cpu_count(), "costs": costs, "figures": values} | details


sys.exit(main())
