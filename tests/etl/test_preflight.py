"""The preflight: what a run refuses before it reads anything, what it warns of, and column types that it reads rightly all the same."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from apps.demo import shop
from apps.etl.preflight import preflight
from apps.orchestration.models import Reject
from apps.orchestration.proof import prove
from apps.orchestration.results import document
from apps.orchestration.window import Window
from apps.sources.orders.models import OrderItem, Region
from apps.sources.payments.models import Payment
from techmarket.errors import BadData, Misconfigured, SchemaDrift
from tests.etl import warehouse_rows
from tests.etl.warehouse_rows import age_source_rows, assert_balanced, assert_warehouse_equals, compute_expected, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def is_sqlite() -> bool:
    return connections["orders_db"].vendor == "sqlite"


def skip_on_sqlite(why: str) -> None:
    if is_sqlite():
        pytest.skip(why)


@pytest.fixture
def small_shop(settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 25
    shop.generate(60, 7)
    age_source_rows()


@contextmanager
def altered_tables(alias: str, *statements: tuple[str, str]) -> Iterator[None]:
    for change, _ in statements:
        execute(alias, change)
    try:
        yield
    finally:
        for _, undo in reversed(statements):
            execute(alias, undo)


@contextmanager
def modified(alias: str, table: str, **types: str) -> Iterator[None]:
    """Give columns other types on MySQL, and their own back."""
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        lines = [line.strip().rstrip(",") for line in cursor.fetchone()[1].splitlines()]
    own = {name: next(line for line in lines if line.startswith(f"`{name}` ")) for name in types}
    alter = f"ALTER TABLE {table} MODIFY"
    with altered_tables(alias, *((f"{alter} {name} {kind}", f"{alter} {own[name]}") for name, kind in types.items())):
        yield


def find_warnings() -> set[tuple[str, str, str, str]]:
    """Return the warnings of the preflight: table, name, expected, observed."""
    return {(each.table, each.name, each.expected, each.observed) for each in preflight()}


# --- Refused ---

RENAME_COLUMN = ("ALTER TABLE {0} RENAME COLUMN {1} TO put_aside", "ALTER TABLE {0} RENAME COLUMN put_aside TO {1}")


def rename_column(table: str, column: str) -> tuple[str, str]:
    return (RENAME_COLUMN[0].format(table, column), RENAME_COLUMN[1].format(table, column))


def test_preflight_passes_on_migrated_databases_without_a_warning() -> None:
    assert preflight() == []


def test_a_missing_column_is_named() -> None:
    with altered_tables("orders_db", rename_column("order_items", "discount")), pytest.raises(SchemaDrift, match=r"orders_db.*discount"):
        preflight()
    preflight()


@pytest.mark.parametrize("table", ["orders", "order_items"])
def test_updated_at_that_is_missing_is_named(table: str) -> None:
    with altered_tables("orders_db", rename_column(table, "updated_at")), pytest.raises(SchemaDrift, match=r"orders_db.*updated_at"):
        preflight()
    preflight()


def test_a_missing_table_is_named() -> None:
    rename_table = ("ALTER TABLE payments RENAME TO payments_away", "ALTER TABLE payments_away RENAME TO payments")
    with (
        altered_tables("payments_db", rename_table),
        pytest.raises(SchemaDrift, match=r"payments_db.*payments.*Restore it in the source database"),
    ):
        preflight()
    preflight()


@pytest.mark.parametrize(
    ("alias", "table", "column", "mysql", "sqlite"),
    [
        ("payments_db", "payments", "amount", "DECIMAL(12,4)", "VARCHAR(20)"),
        ("payments_db", "payments", "amount", "DECIMAL(12,0)", "VARCHAR(20)"),
        ("payments_db", "payments", "amount", "DECIMAL(19,2)", "VARCHAR(20)"),
        ("orders_db", "order_items", "product_id", "BIT(8)", "BLOB"),
        ("orders_db", "orders", "updated_at", "VARCHAR(30)", "TEXT"),
        ("payments_db", "payments", "amount", "DOUBLE", "VARCHAR(20)"),
        ("orders_db", "order_items", "quantity", "DECIMAL(8,2)", "REAL"),
        ("orders_db", "regions", "name", "BLOB", "BLOB"),
        ("orders_db", "employees", "hired_at", "DATETIME(6)", "DATETIME"),
    ],
)
def test_a_column_of_another_type_is_named(alias: str, table: str, column: str, mysql: str, sqlite: str) -> None:
    kind = sqlite if is_sqlite() else mysql
    other = (f"ALTER TABLE {table} ADD COLUMN {column} {kind}", f"ALTER TABLE {table} DROP COLUMN {column}")
    with (
        altered_tables(alias, rename_column(table, column), other),
        pytest.raises(SchemaDrift, match=rf"{alias}.*{table}\.{column} is {kind.lower()[:3]}"),
    ):
        preflight()
    preflight()


def test_a_run_that_fails_preflight_writes_nothing(small_shop: None) -> None:
    before: Any = warehouse_rows.read_warehouse()
    with altered_tables("catalog_db", rename_column("products", "sku")), pytest.raises(SchemaDrift):
        warehouse_rows.run_etl()
    assert warehouse_rows.read_warehouse() == before
    assert Region.objects.count() == 5


def test_engine_without_transactions_is_refused() -> None:
    skip_on_sqlite("one engine")
    change = ("ALTER TABLE payments ENGINE=MyISAM", "ALTER TABLE payments ENGINE=InnoDB")
    pattern = r"payments_db.*payments is stored by MyISAM.*Expected: InnoDB.*ALTER TABLE payments ENGINE=InnoDB"
    with altered_tables("payments_db", change), pytest.raises(Misconfigured, match=pattern):
        preflight()
    assert preflight() == []


def test_number_that_no_bigint_holds_is_refused(small_shop: None) -> None:
    skip_on_sqlite("no unsigned numbers")
    payment = Payment.objects.latest("id")
    with modified("payments_db", "payments", order_id="BIGINT UNSIGNED NOT NULL"):
        execute("payments_db", f"UPDATE payments SET order_id = 9223372036854775808 WHERE id = {payment.pk}")
        with pytest.raises(BadData, match=r"payments\.order_id holds 9223372036854775808; the largest .* 9223372036854775807\. Correct"):
            run_etl()
        execute("payments_db", f"UPDATE payments SET order_id = {payment.order_id} WHERE id = {payment.pk}")
        run_etl()


# --- Read rightly ---


def test_other_types_that_are_read_rightly(small_shop: None) -> None:
    skip_on_sqlite("any value in any column")
    payments = {"id": "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT", "order_id": "BIGINT UNSIGNED NOT NULL"}
    payments |= {"amount": "DECIMAL(12,2) UNSIGNED NOT NULL", "status": "ENUM('pending','captured','failed','refunded') NOT NULL"}
    items = {"id": "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT", "product_id": "BIGINT UNSIGNED NOT NULL"}
    items |= {"quantity": "INT(6) UNSIGNED ZEROFILL NOT NULL", "unit_price": "DECIMAL(14,2) UNSIGNED NOT NULL"}
    items |= {"discount": "DECIMAL(18,2) UNSIGNED ZEROFILL NOT NULL"}
    expected = compute_expected()
    with ExitStack() as stack:
        for alias, table, types in (
            ("payments_db", "payments", payments),
            ("orders_db", "order_items", items),
            ("orders_db", "orders", {"status": "ENUM('new','paid','shipped','cancelled') NOT NULL"}),
            ("orders_db", "employees", {"is_manager": "BIT(1) NOT NULL"}),
            ("catalog_db", "products", {"price": "DECIMAL(18,2) NOT NULL"}),
        ):
            stack.enter_context(modified(alias, table, **types))
        run = run_etl()
        assert_warehouse_equals(expected)
        assert_balanced(run)
        assert warehouse_rows.count_written_rows(run_etl("full", reread=True)) == {}
        OrderItem.objects.filter(pk=1).update(quantity=9)
        execute("orders_db", "UPDATE employees SET is_manager = 1 - is_manager WHERE id < 3")
        age_source_rows()
        assert run_etl("incremental").found["orders"]["sweep"] == 1
        assert prove(Window.everything()).is_equal
        assert preflight() == []
    assert_warehouse_equals(compute_expected())


def test_amount_above_that_of_the_warehouse_is_rejected(small_shop: None) -> None:
    skip_on_sqlite("no precision")
    with modified("payments_db", "payments", amount="DECIMAL(18,2) NOT NULL"):
        execute("payments_db", "UPDATE payments SET amount = 9999999999999999.99 WHERE id = 1")
        run = run_etl()
        assert list(Reject.objects.filter(run=run).values_list("table", "row_id", "rule")) == [("payments", "1", "bad_money")]
        assert prove(Window.everything()).is_equal
        execute("payments_db", "UPDATE payments SET amount = 1 WHERE id = 1")


# --- Warned of ---


def test_updated_at_that_nobody_sets(small_shop: None) -> None:
    """Without ON UPDATE the window finds no edit; the sweep does."""
    skip_on_sqlite("a trigger sets it")
    run_etl()
    with modified("orders_db", "order_items", updated_at="DATETIME(6) NOT NULL"):
        expected = ("order_items", "ON UPDATE of updated_at", "ON UPDATE CURRENT_TIMESTAMP", "none; only the sweep finds changes")
        assert find_warnings() == {expected}
        OrderItem.objects.filter(pk=1).update(quantity=9)
        assert run_etl("incremental").found["orders"]["sweep"] == 1
        assert_warehouse_equals(compute_expected())


def test_updated_at_without_an_index() -> None:
    with connections["payments_db"].cursor() as cursor:
        constraints = connections["payments_db"].introspection.get_constraints(cursor, "payments")
    [index] = [name for name, each in constraints.items() if each["columns"] == ["updated_at"]]
    drop = f"DROP INDEX {index}" if is_sqlite() else f"DROP INDEX {index} ON payments"
    with altered_tables("payments_db", (drop, f"CREATE INDEX {index} ON payments (updated_at)")):
        observed = ("an index that begins with updated_at", "none; each run searches the whole table")
        assert find_warnings() == {("payments", "index on updated_at", *observed)}
    assert preflight() == []


@contextmanager
def nullable_updated_at() -> Iterator[None]:
    """SQLite alters no column; there the declaration is rewritten."""
    if not is_sqlite():
        with modified("orders_db", "order_items", updated_at="DATETIME(6) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(6)"):
            yield
        return
    with connections["orders_db"].cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE name = 'order_items'")
        own = cursor.fetchone()[0]
    start = own.index('"updated_at"')
    other = own[:start] + own[start:].replace(" NOT NULL", "", 1)
    try:
        rewrite("orders_db", "order_items", other)
        yield
    finally:
        rewrite("orders_db", "order_items", own)


def rewrite(alias: str, table: str, declaration: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("PRAGMA writable_schema = 1")
        cursor.execute("UPDATE sqlite_master SET sql = %s WHERE name = %s", [declaration, table])
        cursor.execute("PRAGMA writable_schema = RESET")


def test_row_without_updated_at_is_found_by_the_sweep(small_shop: None) -> None:
    run_etl()
    with nullable_updated_at():
        nullable = ("order_items", "nullable column updated_at", "NOT NULL", "NULL")
        assert find_warnings() == {nullable}
        execute("orders_db", "UPDATE order_items SET quantity = 9, updated_at = NULL WHERE id IN (1, 2)")
        assert find_warnings() == {nullable, ("order_items", "not null updated_at", "0 rows", "2 rows; only the sweep finds their changes")}
        assert run_etl("incremental").found["orders"]["sweep"] >= 1
        assert_warehouse_equals(compute_expected())
        execute("orders_db", "UPDATE order_items SET updated_at = created_at WHERE id IN (1, 2)")


def test_view_has_neither_index_nor_on_update() -> None:
    skip_on_sqlite("its views do not tell which columns may be empty")
    rename = ("ALTER TABLE payments RENAME TO payments_away", "ALTER TABLE payments_away RENAME TO payments")
    view = ("CREATE VIEW payments AS SELECT * FROM payments_away", "DROP VIEW payments")
    with altered_tables("payments_db", rename, view):
        assert preflight() == []


def test_added_column_is_named_and_not_loaded(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning is the run's, in the ledger and in `--json`, and that of `ping`."""
    added = ("ALTER TABLE auth_users ADD COLUMN loyalty VARCHAR(20)", "ALTER TABLE auth_users DROP COLUMN loyalty")
    with altered_tables("auth_db", added):
        run = run_etl()
        [warning] = [each for each in document(run)["checks"] if not each["passed"]]
        assert {name: str(warning[name]) for name in ("table", "name", "expected", "observed")} == {
            "table": "auth_users",
            "name": "added column loyalty",
            "expected": "no such column",
            "observed": "varchar(20); not loaded",
        }
        assert not warning["blocking"] and run.checks.get(passed=False).task.stage == "plan"
        call_command("ping", "--databases")
        [line] = [line for line in capsys.readouterr().err.splitlines() if "may do more than it needs" not in line]
        assert line.startswith("auth_db (")
        assert line.endswith("): warning: auth_users: added column loyalty: expected no such column, observed varchar(20); not loaded.")
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize(
    ("alias", "table", "column", "kind", "declared"),
    [
        ("orders_db", "regions", "name", "VARCHAR(40) NOT NULL", "varchar(120)"),
        ("catalog_db", "products", "name", "TINYTEXT NOT NULL", ""),
        ("orders_db", "order_items", "quantity", "SMALLINT NOT NULL", "integer"),
        ("orders_db", "order_items", "product_id", "INT NOT NULL", "bigint"),
        ("payments_db", "payments", "id", "INT NOT NULL AUTO_INCREMENT", "bigint"),
        ("orders_db", "order_items", "discount", "DECIMAL(10,2) NOT NULL", "numeric(12, 2)"),
        ("orders_db", "orders", "order_date", "DATETIME NULL", "datetime(6)"),
        ("orders_db", "orders", "status", "TEXT NOT NULL", ""),
        ("orders_db", "customers", "first_name", "VARCHAR(200) NOT NULL", ""),
    ],
)
def test_narrowed_column_is_read_rightly_and_named(small_shop: None, alias: str, table: str, column: str, kind: str, declared: str) -> None:
    """A wider one is no warning: what is too long for the warehouse is rejected."""
    skip_on_sqlite("any value in any column")
    with modified(alias, table, **{column: kind}):
        found = {each[:3] for each in find_warnings()}
        assert found == ({(table, f"narrowed column {column}", declared)} if declared else set())
        run_etl()
        assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize(
    ("alias", "table", "column", "kind", "rules"),
    [
        ("payments_db", "payments", "amount", "DECIMAL(12,2)", "bad_money"),
        ("payments_db", "payments", "order_id", "BIGINT", "missing_order"),
        ("payments_db", "payments", "status", "VARCHAR(20)", "unknown_status"),
        ("payments_db", "payments", "method", "VARCHAR(20)", "unknown_method"),
        ("orders_db", "order_items", "quantity", "INT", "missing_value"),
        ("orders_db", "order_items", "unit_price", "DECIMAL(12,2)", "missing_value"),
        ("orders_db", "order_items", "product_id", "BIGINT", "missing_value"),
        ("orders_db", "orders", "status", "VARCHAR(20)", "unknown_status"),
        ("orders_db", "orders", "region_id", "BIGINT", ""),
        ("orders_db", "regions", "code", "VARCHAR(10)", "missing_value"),
        ("orders_db", "regions", "name", "VARCHAR(120)", "missing_value"),
        ("orders_db", "customers", "email", "VARCHAR(254)", "missing_value"),
        ("orders_db", "customers", "first_name", "VARCHAR(80)", "missing_value"),
        ("orders_db", "customers", "region_id", "BIGINT", ""),
        ("orders_db", "customers", "created_at", "DATETIME(6)", ""),
        ("orders_db", "employees", "is_manager", "TINYINT(1)", "missing_value"),
        ("orders_db", "employees", "hired_at", "DATE", ""),
        ("catalog_db", "products", "name", "VARCHAR(200)", "missing_value"),
        ("catalog_db", "products", "sku", "VARCHAR(40)", "missing_value"),
        ("catalog_db", "products", "price", "DECIMAL(12,2)", "missing_value"),
        ("catalog_db", "products", "status", "VARCHAR(20)", "unknown_status"),
        ("catalog_db", "products", "category_id", "BIGINT", ""),
        ("catalog_db", "categories", "name", "VARCHAR(120)", "missing_value"),
        ("auth_db", "roles", "name", "VARCHAR(20)", "unknown_role"),
        ("auth_db", "user_roles", "role_id", "BIGINT", ""),
        ("auth_db", "auth_users", "status", "VARCHAR(20)", "unknown_status"),
    ],
)
def test_nullable_column_is_named_and_its_empty_values_stop_nothing(
    small_shop: None, alias: str, table: str, column: str, kind: str, rules: str
) -> None:
    skip_on_sqlite("no statement alters a column")
    with modified(alias, table, **{column: f"{kind} NULL"}):
        assert find_warnings() == {(table, f"nullable column {column}", "NOT NULL", "NULL")}
        with connections[alias].cursor() as cursor:
            cursor.execute(f"SELECT MAX(id) FROM {table}")
            [last] = cursor.fetchone()
            cursor.execute(f"SELECT {column} FROM {table} WHERE id = {last}")
            [own] = cursor.fetchone()
            cursor.execute(f"UPDATE {table} SET {column} = NULL WHERE id = {last}")
        try:
            run = run_etl()
            assert_warehouse_equals(compute_expected())
        finally:
            with connections[alias].cursor() as cursor:  # a run closes the connections before it
                cursor.execute(f"UPDATE {table} SET {column} = %s WHERE id = {last}", [own])
    found = set(Reject.objects.filter(run=run, table=table, row_id=str(last)).values_list("rule", flat=True))
    assert ", ".join(found) == rules
    assert_balanced(run)
