"""Who reads the warehouse while it is loaded: in every way of loading they see the old state or the new one, and hardly wait."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connections

from apps.demo import changes, shop
from apps.etl.load import publish as publishing
from apps.etl.load import session
from apps.etl.tables import DIMENSIONS, FACTS
from apps.orchestration.models import Run
from apps.orchestration.prepared import drop_leftovers
from apps.sources.orders.models import Order, OrderItem
from apps.warehouse.models import FactSales, Prepared
from tests.conftest import require_program
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
TABLES = ("etl_load", *(target.table for target in (*DIMENSIONS, *FACTS)))
LONGEST_WAIT_S = 1.0  # of a busy machine; make bench BENCH=--lock measures it
PAUSE_S = 0.02


@pytest.fixture(autouse=True)
def sliced_shop(settings: Any) -> None:
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("SQLite: a file, whose readers see what is committed")
    settings.ETL_BATCH_ORDERS = 20
    shop.generate(160, 42)


def connect() -> "psycopg.Connection[Any]":
    parameters = connections["dwh"].get_connection_params()
    names = ("host", "port", "dbname", "user", "password", "options")
    return psycopg.connect(**{name: parameters[name] for name in names if name in parameters}, autocommit=True)


DIGEST = "(SELECT COALESCE(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {} AS t)"


def read_at_once(connection: "psycopg.Connection[Any]") -> tuple[str, ...]:
    """Return a digest of each table's rows."""
    return connection.execute(f"SELECT {', '.join(map(DIGEST.format, TABLES))}").fetchone()  # type: ignore[arg-type, return-value]


def read_one_by_one(connection: "psycopg.Connection[Any]") -> tuple[str, ...]:
    """Return the same by several statements of one transaction, as a dump or a report reads."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return tuple(connection.execute(f"SELECT {DIGEST.format(table)}").fetchone()[0] for table in TABLES)  # type: ignore[arg-type, index]


class Reader(threading.Thread):
    """Reads until `done` is set; keeps what it has seen, its longest wait for one table, and an error."""

    def __init__(self, read: Callable[["psycopg.Connection[Any]"], Any]):
        super().__init__(daemon=True)
        self.read = read
        self.done = threading.Event()
        self.seen: set[Any] = set()
        self.longest = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            with connect() as connection:
                while not self.done.wait(PAUSE_S):
                    began = time.monotonic()
                    self.seen.add(self.read(connection))
                    self.longest = max(self.longest, time.monotonic() - began)
        except Exception as error:
            self.error = error


def read_first_row(table: str) -> Callable[["psycopg.Connection[Any]"], None]:
    def read(connection: "psycopg.Connection[Any]") -> None:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall()  # type: ignore[arg-type]

    return read


@contextmanager
def polling(*reads: Callable[["psycopg.Connection[Any]"], Any]) -> Iterator[list[Reader]]:
    """Poll in these ways, and each table by itself; print and judge how long a table's reader had to wait."""
    readers = [Reader(read) for read in (*reads, *map(read_first_row, TABLES))]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.done.set()
        for reader in readers:
            reader.join(30)
    assert [reader.error for reader in readers if reader.error] == []
    waits = {table: round(reader.longest, 3) for table, reader in zip(TABLES, readers[len(reads) :], strict=True)}
    print(f"longest waits in s: {waits}")
    assert max(waits.values()) < LONGEST_WAIT_S, waits


def load_in_other_ways() -> Iterator[Run]:
    """Write every line anew, and merge."""
    OrderItem.objects.update(quantity=3)
    yield run_etl("full", reread=True)
    changes.apply(20, 1)
    yield run_etl("incremental")


def test_readers_see_the_old_state_or_the_new_one() -> None:
    """Through a first load and all others."""
    with connect() as own, polling(read_at_once) as (reader, *_):
        states = [read_at_once(own)]
        run_etl()
        states.append(read_at_once(own))
        states += [read_at_once(own) for _ in load_in_other_ways()]
    assert len(set(states)) == 4 and len(reader.seen) >= 3
    assert reader.seen <= set(states), "neither old nor new"
    assert_warehouse_equals(compute_expected())


def test_transactions_see_one_state() -> None:
    run_etl()
    with connect() as own, polling(read_one_by_one) as (reader, *_):
        states = [read_one_by_one(own), *(read_one_by_one(own) for _ in load_in_other_ways())]
    assert len(set(states)) == 3 and len(reader.seen) >= 2
    assert reader.seen <= set(states), "neither old nor new"


def test_transaction_that_began_before_a_first_load_does_not_see_it() -> None:
    with connect() as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        run_etl()
        for table in ("dim_customer WHERE customer_key > 0", "fact_sales", "etl_load", "etl_order"):
            assert reader.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,), table  # type: ignore[arg-type]


@pytest.mark.parametrize("table", ["fact_sales", "dim_region", "etl_load"])
def test_first_load_waits_for_a_transaction_that_has_read_and_lets_others_read(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    """A transaction that has seen one table of the star as it was sees the others as they were."""
    monkeypatch.setattr(session, "PAUSE_S", 0.2)
    rows: list[Any] = []

    def read_the_fact() -> None:
        rows.append(long.execute("SELECT COUNT(*) FROM fact_sales").fetchone())
        long.execute("ROLLBACK")

    with connect() as long, polling():
        long.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        long.execute(f"SELECT COUNT(*) FROM {table}")  # type: ignore[arg-type]
        timer = threading.Timer(4, read_the_fact)
        timer.start()
        run_etl()
        assert timer.finished.is_set(), "it was published while somebody read what it replaces"
    assert rows == [(0,)]
    assert_warehouse_equals(compute_expected())


def test_reader_who_never_ends_fails_the_load_in_plain_words(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.ETL_ATTEMPTS = 1
    monkeypatch.setattr(session, "ATTEMPTS", 2)
    monkeypatch.setattr(session, "PAUSE_S", 0)
    with connect() as long:
        long.execute("BEGIN")
        long.execute("SELECT COUNT(*) FROM fact_sales")
        with pytest.raises(Exception, match="another session holds a lock on the warehouse"):
            run_etl()
    assert not FactSales.objects.exists()
    run_etl()
    assert_warehouse_equals(compute_expected())


def move_first_order_to_the_last_day() -> None:
    first = FactSales.objects.earliest("order_id").order_id
    Order.objects.filter(pk=first).update(order_date=Order.objects.latest("order_date").order_date)


def test_order_that_moves_to_another_day_keeps_no_reader_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The constraint on days is given up in a transaction of its own: at the end of the publishing one, its partition can be read."""
    run_etl()
    move_first_order_to_the_last_day()
    apply_brakes, rows = publishing.apply_brakes, []

    def read_meanwhile(*arguments: Any) -> Any:
        with connect() as reader:
            reader.execute("SET lock_timeout = '1s'")
            rows.append(reader.execute("SELECT COUNT(*) FROM fact_sales").fetchone())
        return apply_brakes(*arguments)

    monkeypatch.setattr(publishing, "apply_brakes", read_meanwhile)
    run_etl("incremental")
    assert_warehouse_equals(compute_expected())
    assert rows


def test_order_that_moves_to_another_day_waits_for_a_long_reader() -> None:
    run_etl()
    move_first_order_to_the_last_day()
    with connect() as long, polling():
        long.execute("BEGIN")
        long.execute("SELECT COUNT(*) FROM fact_sales")
        timer = threading.Timer(7, lambda: long.execute("ROLLBACK"))
        timer.start()
        run_etl("incremental")
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize("moment", ["preparing", "publishing"])
def test_prepared_table_that_somebody_reads_is_left_to_the_next_run(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """pg_dump locks every table that there is when it begins, for as long as it takes."""
    run_etl()
    changes.apply(20, 1)
    with connect() as dump:
        dump.execute("BEGIN")
        stage_all = publishing.stage_all

        def dump_meanwhile(*arguments: Any) -> Any:
            dump.execute(f"LOCK TABLE {', '.join(Prepared.objects.values_list('relation', flat=True))} IN ACCESS SHARE MODE")  # type: ignore[arg-type]
            return stage_all(*arguments)

        monkeypatch.setattr(publishing, "stage_all", dump_meanwhile)
        run_etl("incremental")
        assert_warehouse_equals(compute_expected())
        left = list(Prepared.objects.values_list("relation", flat=True))
        assert left
        drop_leftovers()
        assert list(Prepared.objects.values_list("relation", flat=True)) == left
    monkeypatch.undo()
    if moment == "preparing":
        run_etl("incremental")
    else:
        drop_leftovers()
    assert not Prepared.objects.exists()
    with connect() as connection:
        assert connection.execute("SELECT to_regclass(%s)", [left[0]]).fetchone() == (None,)


DUMPED = ("fact_sales*", "dim_*", "etl_load")


def start_dump() -> "subprocess.Popen[str]":
    """Start what docs/OPERATIONS.md names for a dump by other means than `manage.py backup`."""
    program = require_program("pg_dump", "postgresql-client-15")
    parameters = connections["dwh"].get_connection_params()
    where = [f"--host={parameters['host']}", f"--port={parameters['port']}", f"--username={parameters['user']}", parameters["dbname"]]
    command = [str(program), "--data-only", "--exclude-table=etl_prepared_*", *(f"--table={table}" for table in DUMPED), *where]
    env = {"PGPASSWORD": str(parameters.get("password", ""))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def rows_of(dump: str) -> str:
    """Return the rows of a dump in order, whichever partition has them."""
    return "\n".join(sorted(line for line in dump.splitlines() if "\t" in line and not line.startswith(("--", "SELECT"))))


def test_dumps_during_loads_hold_one_state() -> None:
    """Every dump that pg_dump makes while runs publish holds the state before or after one, and none makes a run fail."""
    run_etl()
    states = {rows_of(start_dump().communicate()[0])}
    dumps: list[tuple[str, str]] = []
    done = threading.Event()

    def dump_again_and_again() -> None:
        while not done.is_set():
            dumps.append(start_dump().communicate())

    thread = threading.Thread(target=dump_again_and_again)
    thread.start()
    try:
        for _ in load_in_other_ways():
            states.add(rows_of(start_dump().communicate()[0]))
    finally:
        done.set()
        thread.join()
    assert_warehouse_equals(compute_expected())
    assert [errors for _dump, errors in dumps if errors] == []
    seen = {rows_of(dump) for dump, _errors in dumps}
    assert seen <= states and len(seen) >= 2
