"""`make bench`, or `python tests/servers.py --as-in-production -- python -m tests.bench`: exit code 1 where a target is missed."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
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
    "pandas": peers.pandas_way,
    "dlt defaults": lambda: peers.dlt_way("defaults"),
    "dlt fast": lambda: peers.dlt_way("fast"),
}
screen = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
Costs = dict[str, list[Cost]]


def main() -> int:
    options = arguments()
    began = time.monotonic()
    try:
        if options.scale:
            report, missed = scale(options.quick)
        elif options.workers:
            report, missed = share_among(options.workers, options.quick)
        else:
            report, missed = side_by_side(options)
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
    parser.add_argument("--quick", action="store_true", help="a tenth of the size; ratios to the floor are not judged then")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="alternations, of which the medians are taken (default 3)")
    parser.add_argument("--without-peers", action="store_true", help="neither pandas nor dlt, which take five minutes a round")
    parser.add_argument("--scale", action="store_true", help="instead: first loads of 0.1, 1 and 4 million lines")
    parser.add_argument("--workers", type=counts, metavar="1,2", help="instead: a full run handed to so many Celery workers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report as JSON")
    return parser.parse_args()


def counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


# --- Side by side ---


def side_by_side(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    orders = ORDERS // 10 if options.quick else ORDERS
    say(f"building the shop of {orders:,} orders")
    harness.build_shop(orders)
    costs: Costs = {}
    details: dict[str, Any] = {}
    for turn in range(options.rounds):
        alternate(turn, costs, details)
        if not options.without_peers:
            measure_peers(turn, costs, details)
    costs["SQLite, demo shop"] = [ours.embedded()]
    medians = {what: median(each) for what, each in costs.items()}
    draw_costs(medians, details)
    draw_phases(details.get("phases", {}))
    values = figures(medians)
    # Starting a process weighs as much as a tenth of the load: a ratio to the floor says nothing then.
    judged = [target for target in TARGETS if not (options.quick and target.unit == FLOORS)]
    missed = draw_targets(judged, values)
    return report(details, medians, values), missed


def alternate(turn: int, costs: Costs, details: dict[str, Any]) -> None:
    """One round of the floor and of our paths, each on what the one before left."""
    record(turn, costs, "floor", floor.floor)
    harness.empty()
    steps = (
        ("first full load", "full", False),
        ("full, nothing changed", "full", False),
        ("full, 1 % changed", "full", True),
        ("incremental, 1 % changed", "incremental", True),
        ("incremental, nothing changed", "incremental", False),
    )
    for number, (what, mode, changes) in enumerate(steps):
        harness.let_a_day_pass()
        changed = harness.change_one_percent((len(steps) * turn + number) % 100) if changes else 0
        counted = ours.forget_statements()
        document = ours_recorded(turn, costs, what, mode)
        wrote = ours.written(document)
        if what != "first full load" and wrote > changed:
            raise Failed(f"{what}: {wrote} rows written where {changed} lines had changed")
        details.setdefault("rows", {})[what] = {"read": document["tables"]["fact_sales"]["read"], "written": wrote}
        if counted:
            details.setdefault("phases", {})[what] = ours.phases()
            details.setdefault("wal", {})[what] = ours.wal()


def ours_recorded(turn: int, costs: Costs, what: str, mode: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def run() -> Cost:
        used, document = ours.run(mode)
        found.append(document)
        return used

    record(turn, costs, what, run)
    return found[0]


def measure_peers(turn: int, costs: Costs, details: dict[str, Any]) -> None:
    """A peer that cannot be had is left out, with a word."""
    for what, peer in PEERS.items():
        if what in details.setdefault("left_out", {}):
            continue
        try:
            record(turn, costs, what, peer)
        except Failed as error:
            details["left_out"][what] = str(error)
            say(f"{what}: left out: {error}")


def record(turn: int, costs: Costs, what: str, measured: Callable[[], Cost]) -> None:
    harness.settle()
    used = measured()
    costs.setdefault(what, []).append(used)
    say(f"round {turn + 1}: {what}: {used.wall:.2f} s, {used.rss:.0f} MB")


def figures(medians: dict[str, Cost]) -> dict[str, float | None]:
    """The values of TARGETS."""
    base, first = medians["floor"].wall, medians["first full load"]
    values: dict[str, float | None] = {
        what: used.wall if what in ("incremental, nothing changed", "SQLite, demo shop") else used.wall / base
        for what, used in medians.items()
    }
    values["peak memory"] = max(used.rss for what, used in medians.items() if what.startswith(("full", "incremental", "first")))
    pandas, dlt = medians.get("pandas"), medians.get("dlt defaults")
    values["pandas, in our first loads"] = pandas.wall / first.wall if pandas else None
    values["memory of pandas"] = pandas.rss / first.rss if pandas else None
    values["dlt defaults, in our first loads"] = dlt.wall / first.wall if dlt else None
    return {target.figure: values.get(target.figure) for target in TARGETS}


# --- The curve, and the workers ---


def scale(quick: bool) -> tuple[dict[str, Any], list[str]]:
    medians: dict[str, Cost] = {}
    lines: list[int] = []
    for orders in SCALES:
        size = orders // 10 if quick else orders
        say(f"building the shop of {size:,} orders")
        harness.build_shop(size)
        harness.empty()
        harness.settle()
        used, document = ours.run("full")
        lines.append(document["tables"]["fact_sales"]["read"])
        medians[f"{lines[-1]:,} lines"] = used
    table = Table("first full load", "s", "s per million lines", "CPU s", "peak MB")
    for count, (what, used) in zip(lines, medians.items(), strict=True):
        table.add_row(what, f"{used.wall:.2f}", f"{used.wall / count * 1e6:.2f}", f"{used.cpu:.2f}", f"{used.rss:.0f}")
    screen.print(table)
    _, one, four = medians.values()
    values: dict[str, float | None] = dict(
        zip((target.figure for target in SCALE_TARGETS), (four.wall / one.wall, four.rss / one.rss, four.rss), strict=True)
    )
    return report({}, medians, values), draw_targets(SCALE_TARGETS, values)


def share_among(numbers: list[int], quick: bool) -> tuple[dict[str, Any], list[str]]:
    orders = ORDERS // 10 if quick else ORDERS
    say(f"building the shop of {orders:,} orders")
    harness.build_shop(orders)
    medians = {}
    for number in numbers:
        harness.empty()
        harness.settle()
        medians[f"{number} worker{'' if number == 1 else 's'}"] = ours.on_workers(number)
    table = Table("first full load, queued", "s", "times as fast")
    alone = next(iter(medians.values())).wall
    for what, used in medians.items():
        table.add_row(what, f"{used.wall:.2f}", f"{alone / used.wall:.2f}")
    screen.print(table)
    return report({}, medians, {}), []


# --- What is printed ---


def say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def draw_costs(medians: dict[str, Cost], details: dict[str, Any]) -> None:
    base = medians["floor"].wall
    table = Table("what", "s", "x floor", "client's CPU s", "peak MB", "lines/s", "rows written", "WAL MB: warehouse", "ledger")
    for what, used in medians.items():
        rows, wal = details["rows"].get(what), details.get("wal", {}).get(what, {})
        table.add_row(
            what,
            f"{used.wall:.2f}",
            f"{used.wall / base:.2f}",
            f"{used.cpu:.1f}",
            f"{used.rss:.0f}",
            f"{rows['read'] / used.wall:,.0f}" if rows else "",
            f"{rows['written']:,}" if rows else "",
            *(str(wal.get(name, "")) for name in ("warehouse", "ledger")),
        )
    screen.print(table)


def draw_phases(phases: dict[str, dict[str, float]]) -> None:
    """Of the last round. read and transform: seconds of tasks, side by side; land is part of them."""
    if not phases:
        return
    table = Table("seconds in", *next(iter(phases.values())))
    for what, seconds in phases.items():
        table.add_row(what, *(f"{each:.2f}" for each in seconds.values()))
    screen.print(table)


def draw_targets(targets: Sequence[Target], values: dict[str, float | None]) -> list[str]:
    """Prints each figure against its target; those that missed it."""
    table = Table("figure", "measured", "target", "", "stretch")
    missed = []
    for target in targets:
        value = values[target.figure]
        bound = f"{'>=' if target.at_least else '<='} {target.at_most:g} {target.unit}"
        table.add_row(target.figure, "" if value is None else f"{value:.2f}", bound, target.verdict(value), target.stretched(value))
        if target.verdict(value) == "missed":
            missed.append(f"{target.figure}: {value:.2f} where {bound} was the target")
    screen.print(table)
    return missed


def report(details: dict[str, Any], medians: dict[str, Cost], values: dict[str, float | None]) -> dict[str, Any]:
    with harness.mysql(os.environ["ORDERS_DB_URL"]) as connection:
        sources = connection.get_server_info()
    [(warehouse,)] = harness.ask("DWH_URL", "SHOW server_version")
    costs = {
        what: {"wall_s": round(used.wall, 3), "cpu_s": round(used.cpu, 2), "rss_mb": round(used.rss)} for what, used in medians.items()
    }
    return {"servers": f"{sources} -> PostgreSQL {warehouse}", "cores": os.cpu_count(), "costs": costs, "figures": values} | details


sys.exit(main())
