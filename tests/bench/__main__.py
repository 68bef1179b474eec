"""`make bench`, or `python tests/servers.py --as-in-production -- python -m tests.bench`: exit code 1 where a target is missed."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.bench import floor, harness, ours, waits, workers
from tests.bench.measure import Cost, Failed, median
from tests.bench.peers import PEERS
from tests.bench.printing import Report, draw_costs, draw_peers, draw_phases, draw_targets, log, report, screen
from tests.bench.targets import ORDERS, SCALE_TARGETS, TARGETS, select_judged

SCALES = (40_000, 400_000, 1_600_000)  # orders, of two and a half lines each


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
Costs = dict[str, list[Cost]]


def main() -> int:
    options = arguments()
    if not os.environ.get("DWH_URL", "").startswith("postgres"):  # else it would replace the shop of the embedded databases
        print("bench: needs servers, which `make bench` starts", file=sys.stderr)
        return 2
    began = time.monotonic()
    try:
        if options.scale:
            document, missed = measure_scale(options.quick)
        elif options.workers:
            document, missed = workers.measure_workers(options.workers, options.orders, options.rounds)
        elif options.lock:
            document, missed = waits.measure_waits(options.orders, options.rounds)
        else:
            document, missed = compare(options)
    except Failed as error:
        print(f"bench: {error}. Logs: {harness.FOLDER}", file=sys.stderr)
        return 1
    screen.print(f"\nmeasured in {(time.monotonic() - began) / 60:.0f} min on {os.cpu_count()} cores, {document['servers']}")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(harness.FOLDER)
    for figure in missed:
        print(f"missed: {figure}", file=sys.stderr)
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a tenth of the size; ratios between runs are not judged")
    size.add_argument("--orders", type=parse_count, metavar="N", help=f"size of the shop (default {ORDERS}, of 2.5 lines each)")
    parser.add_argument("--rounds", type=parse_count, default=3, metavar="N", help="rounds whose medians are reported (default 3)")
    parser.add_argument(
        "--without-peers", action="store_true", help="without pandas, dlt, sling and DuckDB, which take ten minutes a round"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--scale", action="store_true", help="instead: first loads of 0.1, 1 and 4 million lines, once each")
    instead.add_argument(
        "--workers",
        type=parse_counts,
        metavar="1,2,4",
        help="instead: queued runs on this many Celery workers, their speed-up, and the longest publishing transactions",
    )
    instead.add_argument(
        "--lock",
        action="store_true",
        help="instead: the longest wait of a reader of each table during a first load, a rebuild and a merge, of all rounds",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report as JSON")
    options = parser.parse_args()
    options.orders = options.orders or (ORDERS // 10 if options.quick else ORDERS)
    return options


def parse_count(text: str) -> int:
    """Return a whole number from 1 on. argparse adds the option's name to the error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def parse_counts(text: str) -> list[int]:
    """Return the numbers of workers, each once."""
    return list(dict.fromkeys(parse_count(part.strip()) for part in text.split(",")))


# --- Comparison ---


def compare(options: argparse.Namespace) -> Report:
    log(f"building the shop of {options.orders:,} orders")
    harness.build_shop(options.orders)
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
    if not options.without_peers:
        draw_peers(medians, details)
    values = compute_figures(medians)
    missed = draw_targets(select_judged(TARGETS, options.orders), values)
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
    for peer in PEERS:
        if peer.name in details.setdefault("left_out", {}):
            continue
        try:
            record(round_number, costs, peer.name, peer.run)
        except Failed as error:
            details["left_out"][peer.name] = str(error)
            log(f"{peer.name}: left out: {error}")


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
    for peer in PEERS:
        if cost := medians.get(peer.name):
            values[f"{peer.name}, in our first loads"] = cost.wall / first.wall
            values[f"memory of {peer.name}"] = cost.rss / first.rss
    return {target.figure: values.get(target.figure) for target in TARGETS}


# --- Scale ---


def measure_scale(quick: bool) -> Report:
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


if __name__ == "__main__":
    sys.exit(main())
