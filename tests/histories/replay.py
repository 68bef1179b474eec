"""Replay a history: change the shop, run the ETL, and compare the warehouse with the oracle after every run that published."""

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from django.conf import settings

from apps.etl.reconcile.compare import compare
from apps.etl.tables import FACT_SALES
from apps.orchestration import proof
from apps.orchestration.planning import CLOCK_TOLERANCE
from apps.orchestration.rejects import standing_rejects
from apps.warehouse.loads import latest_load
from techmarket.errors import MarkAhead
from tests import oracle
from tests.etl import warehouse_rows
from tests.histories.shop import COSTS, OPENING, Rows, has_clock, restore, set_clock
from tests.histories.steps import Change, Close, History, Open, Race, Run, Step, Wait
from tests.histories.writers import Writer
from tests.oracle import UNKNOWN, Row

TICK = timedelta(seconds=1)
PAUSE_S = 0.05  # between two changes during a run, which takes half a second


class Replay:
    """One history, from the shop's opening to an incremental run after which nothing may differ. `tally` counts what was done."""

    def __init__(self, opening: Rows, tally: Counter[str]):
        restore(opening)
        self.opening = opening
        self.tally = tally
        self.now = OPENING
        self.writer = Writer(opening)
        self.transaction: Writer | None = None

    def replay(self, history: History) -> None:
        try:
            for step in history:
                self.tally[f"step: {type(step).__name__.lower()}"] += 1
                self.advance(TICK)
                self.do(step)
            self.advance(TICK)
            self.close_transaction()
            self.run(Run("incremental"))
            self.reconcile()
        finally:
            self.close_transaction()
            self.writer.close()
            self.tally["histories"] += 1

    def do(self, step: Step) -> None:
        match step:
            case Change():
                self.make_way()
                self.change(self.writer, step)
            case Open():
                self.close_transaction()
                self.transaction = Writer(self.opening, in_transaction=True)
                for change in step.changes:
                    self.change(self.transaction, change)
            case Close():
                self.close_transaction(step.commit)
            case Wait():
                self.advance(timedelta(minutes=step.minutes))
            case Run():
                self.run(step)
            case Race():
                self.race(step)

    # --- The shop ---

    def advance(self, duration: timedelta) -> None:
        self.now = self.now + duration if has_clock() else datetime.now(UTC)
        set_clock(self.now)

    def change(self, writer: Writer, change: Change) -> None:
        made = writer.change(change.what, change.at, change.value, change.stamp, self.now)
        self.tally[f"change: {change.what}"] += made
        self.tally["change: refused by keys or locks"] += not made

    def make_way(self) -> None:
        """On SQLite a transaction that writes must end before another program can write."""
        if not has_clock():
            self.close_transaction()

    def close_transaction(self, commit: bool = True) -> None:
        if self.transaction:
            self.transaction.close(commit)
            self.transaction = None

    # --- Runs ---

    def run(self, run: Run) -> None:
        """Run the ETL and compare. A mark that a wrong clock has left is refused; then a full run follows, as the refusal says."""
        ahead = timedelta(minutes=run.ahead) if has_clock() and not self.is_order_dated_ahead(run.ahead) else timedelta()
        set_clock(self.now + ahead)
        try:
            self.execute(run, self.now + ahead)
        except MarkAhead:
            assert run.mode == "incremental" and self.mark() > self.now + ahead + CLOCK_TOLERANCE
            self.tally["run: incremental, refused for its mark"] += 1
            self.execute(Run("full", dry=run.dry), self.now + ahead)
        finally:
            set_clock(self.now)

    def execute(self, run: Run, now: datetime) -> None:
        self.tally[f"run: {run.mode}{', dry' * run.dry}{', reread' * run.reread}{', clock ahead' * (now > self.now)}"] += 1
        before = warehouse_rows.read_warehouse() if run.dry else None
        warehouse_rows.run_etl(run.mode, dry_run=run.dry, reread=run.reread)
        if run.dry:
            require_equal("dry run", [] if warehouse_rows.read_warehouse() == before else ["it has written"])
        else:
            self.compare(now if has_clock() else datetime.now(UTC))

    def is_order_dated_ahead(self, minutes: int) -> bool:
        """Return True if a clock that is ahead would make an order a sale that is none yet, until a full run rereads everything."""
        dates = [row["order_date"] for row in oracle.read_table("orders_db", "orders")]
        limit, ahead = (self.now + timedelta(minutes=5 + more) for more in (0, minutes))
        return any(limit < oracle.parse_instant(date) <= ahead for date in dates if date)  # type: ignore[operator]

    def mark(self) -> datetime:
        latest = latest_load()
        assert latest and latest.high_water_mark
        return latest.high_water_mark

    def race(self, race: Race) -> None:
        """Run while another program writes; what it misses of that, the next run must find."""
        if self.mark() > self.now + CLOCK_TOLERANCE:
            self.run(Run("full"))
        self.make_way()
        thread = threading.Thread(target=self.write_meanwhile, args=[race.changes])
        thread.start()
        try:
            warehouse_rows.run_etl("incremental")
        finally:
            thread.join()
        self.tally["run: incremental, raced"] += 1
        self.advance(TICK)
        self.run(Run("incremental"))

    def write_meanwhile(self, changes: list[Change]) -> None:
        writer = Writer(self.opening)
        try:
            for change in changes:
                self.change(writer, change)
                time.sleep(PAUSE_S)
        finally:
            writer.close()

    # --- Comparison ---

    def compare(self, now: datetime) -> None:
        expected = oracle.compute_warehouse(oracle.read_shop(), now)
        for table in warehouse_rows.DIMENSIONS:
            require_equal(table, find_dimension_differences(expected.dimensions[table], warehouse_rows.read_dimension(table)))
        give_costs(expected.facts, warehouse_rows.read_dimension("dim_product"))
        found = warehouse_rows.read_facts()
        self.tally["lines compared"] += len(found)
        self.tally["lines lost"] += len(expected.facts.keys() - found.keys())
        self.tally["lines too many"] += len(found.keys() - expected.facts.keys())
        self.tally["lines with other values"] += sum(found[pk] != row for pk, row in expected.facts.items() if pk in found)
        require_equal("fact_sales", oracle.find_differences(expected.facts, found))

    def reconcile(self) -> None:
        rejects = list(standing_rejects().filter(subject=FACT_SALES.table))
        found = compare(settings.SHOP_TIME_ZONE, None, proof.to_rejected(rejects), self.mark(), lambda done, steps: None)
        named = [f"order {each.order_id} of {each.day}: {each.source}, {each.star}, {each.differing}" for each in found.orders]
        require_equal("reconcile", named or [f"{day}: {orders} orders" for day, orders in found.differing.items()])
        require_equal("rejects", [str(each) for each in proof.find_changed(rejects)])
        self.tally["reconciled"] += 1


def require_equal(what: str, differences: list[str]) -> None:
    assert not differences, f"{what}: {'; '.join(differences)}"


def find_dimension_differences(expected: dict[int, Row], found: dict[int, Row]) -> list[str]:
    """Compare the rows that the source has; others stay, flagged as deleted or inferred."""
    present = {pk: row for pk, row in expected.items() if not row["is_inferred"]}
    flagged = {pk for pk, row in found.items() if row["is_deleted"] or row["is_inferred"]}
    missing = [f"{pk} is not there" for pk in expected.keys() - found.keys()]
    return missing + oracle.find_differences(present, {pk: row for pk, row in found.items() if pk in present or pk not in flagged})


def give_costs(facts: dict[int, Row], products: dict[int, Row]) -> None:
    """Set what the warehouse knows of products that the catalog no longer has."""
    for row in facts.values():
        product = products[row["product"]]
        cost = COSTS.get(row["product"])
        row["category"] = UNKNOWN if product["is_inferred"] else product["category"]
        row["unit_cost"] = cost
        row["cost_amount"] = None if cost is None else cost * row["quantity"]
        row["margin_amount"] = None if cost is None else row["net_amount"] - row["cost_amount"]
