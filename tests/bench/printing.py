"""What the benchmark prints: its progress, tables of costs, and figures against their targets; and the report as JSON."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import harness
from tests.bench.measure import Cost
from tests.bench.peers import PEERS
from tests.bench.targets import Target

screen = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
Report = tuple[dict[str, Any], list[str]]  # what --json writes, and a line for each missed target


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


def draw_peers(medians: dict[str, Cost], details: dict[str, Any]) -> None:
    """Print what each peer makes, what it lacks beside our first load, or why it was left out."""
    first = medians["first full load"].wall
    table = Table("peer", "in our first loads", "makes", "lacks")
    for peer in PEERS:
        if peer.name in medians:
            table.add_row(peer.name, f"{medians[peer.name].wall / first:.2f}", peer.makes, peer.lacks)
        else:
            table.add_row(peer.name, "", f"left out: {details['left_out'][peer.name]}", "")
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
    """Print each figure against its target. Return a line for each that missed it, beyond its bound where it has one."""
    table = Table("figure", "measured", "target", "", "stretch")
    missed = []
    for target in targets:
        value = values[target.figure]
        measured = "" if value is None else f"{value:.2f}"
        table.add_row(target.figure, measured, target.describe(), target.verdict(value), target.describe_stretch(value))
        if value is not None and not target.is_tolerated(value):
            bound = "" if target.bound is None else f", {target.bound:g} its bound"
            missed.append(f"{target.figure}: {measured} where {target.describe()} was the target{bound}")
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
