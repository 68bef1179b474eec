"""One run of the ledger as plain values, as the CLI prints it and `run_etl --json` returns it. The keys are a contract: docs/ETL.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Count, Min, Sum
from django.utils.translation import gettext_noop

from apps.etl.tables import TARGETS
from apps.etl.transform.rules import render_reason
from apps.orchestration.found import found_orders
from apps.orchestration.models import Run
from techmarket.messages import Message, load

WRITTEN = ("read", "inserted", "updated", "unchanged", "deleted", "filtered", "rejected", "derived")
READ = ("read", "loaded", "filtered", "rejected")
# Why net revenue changes: apps/etl/load/revenue.py.
CAUSES = {
    "new": gettext_noop("New sales"),
    "changed": gettext_noop("Changed"),
    "cancelled": gettext_noop("Cancelled"),
    "deleted": gettext_noop("Deleted at the source"),
    "rejected": gettext_noop("Rejected now"),
    "accepted": gettext_noop("Accepted again"),
}


def document(run: Run) -> dict[str, Any]:
    if run.dry_run and run.result and "run" in run.result:
        return dict(load(run.result)) | outcome(run)
    counts = counts_by_table(run)
    return {
        "run": run.pk,
        "mode": run.mode,
        "dry_run": run.dry_run,
        "window": {"start": iso(run.window_start), "end": iso(run.window_end)},
        "high_water_mark": iso(run.high_water_mark),
        **outcome(run),
        "orders": found_orders(run),
        "tables": {table: {name: counts[table][name] for name in WRITTEN} for table in TARGETS if table in counts},
        "sources": {table: {name: row[name] for name in READ} for table, row in counts.items() if table not in TARGETS},
        "net_by_month": run.revenue.get("by_month", {}),
        "net_by_cause": run.revenue.get("by_cause", []),
        "checks": list(run.checks.values("name", "table", "passed", "blocking", "expected", "observed")),
        "rejects": rejects(run),
    }


def outcome(run: Run) -> dict[str, Any]:
    code = run.cause.code if isinstance(run.cause, Message) else ""
    accepted = {"by": run.accepted_by, "reason": run.accepted_because} if run.accepted_by else None
    words = {"status": run.state, "cause": run.cause, "cause_code": code, "cause_kind": run.cause_kind}
    return {**words, "accepted": accepted, "seconds": run.seconds}


def counts_by_table(run: Run) -> dict[str, dict[str, int]]:
    names = dict.fromkeys((*WRITTEN, *READ))
    rows = run.row_counts.values("table").order_by("table").annotate(*(Sum(name) for name in names))
    sums = rows.values_list("table", *(f"{name}__sum" for name in names))
    return {table: dict(zip(names, counts, strict=True)) for table, *counts in sums}


def rejects(run: Run) -> list[dict[str, Any]]:
    """Count the rejected rows and their UAH by table, rule and parameters, with the reason in English and the id of the first row."""
    groups = run.rejects.values("table", "rule", "params").order_by("table", "rule", "params")
    return [
        {
            "table": row["table"],
            "rule": row["rule"],
            "params": row["params"],
            "reason": render_reason(row["rule"], row["params"]),
            "rows": row["rows"],
            "amount": None if row["uah"] is None else str(row["uah"]),
            "first": row["first"],
        }
        for row in groups.annotate(rows=Count("pk"), uah=Sum("amount"), first=Min("row_id"))
    ]


def changed_months(document: Mapping[str, Any]) -> list[tuple[str, Decimal, Decimal, Decimal]]:
    """Return the months whose net revenue the run changes, or would: month, UAH before, UAH after, difference."""
    pairs = {month: (Decimal(before), Decimal(after)) for month, (before, after) in document.get("net_by_month", {}).items()}
    return [(month, before, after, after - before) for month, (before, after) in pairs.items()]


@dataclass
class CauseTotal:
    """What one cause does to net revenue, in UAH, over all months. A line that changes its month counts in both."""

    cause: str
    net: Decimal = Decimal()
    lines: int = 0
    orders: int = 0


def sum_causes(document: Mapping[str, Any]) -> list[CauseTotal]:
    """Return the totals of the causes that occur, in the order of CAUSES."""
    totals = {cause: CauseTotal(cause) for cause in CAUSES}
    for row in document.get("net_by_cause", ()):
        total = totals[row["cause"]]
        total.net += Decimal(row["net"])
        total.lines += row["lines"]
        total.orders += row["orders"]
    return [total for total in totals.values() if total.lines]


def iso(instant: Any) -> str | None:
    return instant.isoformat() if instant else None
