"""What a database must be for a run, and whose names count: on servers that other people share, restrict and configure."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from apps.demo import changes, shop
from apps.etl import preconditions
from apps.etl.load import publish as publishing
from apps.etl.preconditions import check_own_tables, check_server
from apps.etl.preflight import preflight
from apps.orchestration.models import Run
from apps.orchestration.prepared import drop_leftovers
from apps.sources.orders.models import Order, OrderItem
from apps.warehouse.models import FactSales, Prepared
from techmarket.errors import AccessDenied, EtlError, Misconfigured, ReadOnly
from tests.etl import warehouse_rows
from tests.etl.warehouse_rows import assert_warehouse_equals, compute_expected, execute, run_etl

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
OWN = ("default", "dwh")
CHECKS_ON_DAYS = """
SELECT conrelid::regclass::text, conname FROM pg_constraint JOIN pg_partition_tree('fact_sales') ON relid = conrelid WHERE contype = 'c'
"""


@pytest.fixture
def small_shop() -> None:
    shop.generate(60, 7)


@pytest.fixture
def postgresql() -> None:
    if connections["dwh"].vendor != "postgresql":
        pytest.skip("needs servers")


@pytest.fixture
def mysql() -> None:
    if connections["orders_db"].vendor != "mysql":
        pytest.skip("needs servers")


@contextmanager
def changed(alias: str, *statements: tuple[str, str]) -> Iterator[None]:
    """Execute the first of each pair, and afterwards the second, in reverse order; new sessions have what they changed."""
    with ExitStack() as stack:
        stack.callback(connections.close_all)
        for change, undo in statements:
            execute(alias, change)
            stack.callback(execute, alias, undo)
        connections.close_all()
        yield


def database(alias: str) -> str:
    return str(connections[alias].settings_dict["NAME"])


def setting(alias: str, name: str, value: str) -> tuple[str, str]:
    """Return statements that set what sessions of the database begin with."""
    return f"ALTER DATABASE {database(alias)} SET {name} = {value}", f"ALTER DATABASE {database(alias)} RESET {name}"


def schema(name: str, *objects: str) -> list[tuple[str, str]]:
    return [(f"CREATE SCHEMA {name}", f"DROP SCHEMA {name} CASCADE"), *((each, "SELECT 1") for each in objects)]


def select(alias: str, query: str) -> list[tuple[Any, ...]]:
    with connections[alias].cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def assert_refused(kind: type[EtlError], *parts: str) -> None:
    """Assert that the preflight and ping give the same text, with these parts, and that a run writes nothing."""
    before: Any = warehouse_rows.read_warehouse()
    with pytest.raises(kind) as refusal:
        preflight()
    text = str(refusal.value)
    assert "\n" not in text and text.endswith(".")
    for part in parts:
        assert part in text, text
    with pytest.raises(SystemExit) as stopped:
        call_command("ping", "--databases", "--json")
    assert stopped.value.code == 4
    with pytest.raises(kind):
        run_etl()
    assert str(Run.objects.latest("pk").cause) == text
    assert warehouse_rows.read_warehouse() == before


# --- Whose names count ---


def namesakes(name: str) -> list[tuple[str, str]]:
    """Return statements for a schema with our tables, empty, and with indexes and constraints that ours do not have."""
    return schema(
        name,
        f"CREATE TABLE {name}.fact_sales (id int PRIMARY KEY, sold date, order_id bigint)",
        f"CREATE INDEX by_day ON {name}.fact_sales (sold)",
        f"CREATE TABLE {name}.dim_product (product_key int PRIMARY KEY)",
        f"ALTER TABLE {name}.fact_sales ADD CONSTRAINT fact_sales_product FOREIGN KEY (id) REFERENCES {name}.dim_product",
        f"CREATE TABLE {name}.etl_order (order_id int PRIMARY KEY)",
        f"CREATE VIEW {name}.kpi_lines AS SELECT 1 AS one",
    )


def test_namesakes_in_another_schema_change_nothing(small_shop: None, postgresql: None) -> None:
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'fact_sales' ORDER BY 1"
    with changed("dwh", *namesakes("archive")):
        before = select("dwh", indexes)
        run_etl()
        assert_warehouse_equals(compute_expected())
        assert select("dwh", indexes) == before
        assert select("dwh", "SELECT count(*) FROM archive.fact_sales") == [(0,)]
        call_command("migrate", database="dwh", verbosity=0)
        assert select("dwh", "SELECT one FROM archive.kpi_lines") == [(1,)]
        assert check_own_tables("dwh") == []


def test_namesake_that_comes_first_is_refused(small_shop: None, postgresql: None) -> None:
    run_etl()
    for name in ("fact_sales", "dim_region"):
        decoy = schema("mine", f"CREATE VIEW mine.{name} AS SELECT * FROM public.{name}")
        with changed("dwh", *decoy, setting("dwh", "search_path", "mine, public")):
            fix = f"IN DATABASE {database('dwh')} SET search_path = public`"
            assert_refused(Misconfigured, f"{name} means the one in schema mine, while the other tables are in public", fix)
    preflight()


def test_functions_and_operators_of_another_schema_are_not_used(small_shop: None, postgresql: None) -> None:
    """With pg_catalog named last, everybody's functions come before PostgreSQL's own."""
    decoys = schema(
        "mine",
        "CREATE FUNCTION mine.round(numeric, integer) RETURNS numeric LANGUAGE sql AS 'SELECT 0.00'",
        "CREATE FUNCTION mine.always(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR mine.< (FUNCTION = mine.always, LEFTARG = integer, RIGHTARG = integer)",
    )
    with changed("dwh", *decoys, setting("dwh", "search_path", "mine, public, pg_catalog")):
        run_etl()
        changes.apply(20, seed=3)
        run_etl()
    assert_warehouse_equals(compute_expected())


@pytest.mark.parametrize("path", ["public", "public, pg_temp"])
def test_tables_with_the_names_of_ours_that_come_and_go_stay(small_shop: None, postgresql: None, path: str) -> None:
    run_etl()
    latest = Run.objects.latest("pk").pk
    names = ["stage_fact_sales", "changed_fact_sales", "unsold_orders", "stage_etl_order", "stage_dim_region", "stage_touched_orders"]
    names += [f"fact_sales_{number}" for number in range(latest + 1, latest + 4)]
    mine = [(f"CREATE TABLE public.{name} AS SELECT 7 AS mine", f"DROP TABLE public.{name}") for name in names]
    mine += [(f"CREATE TYPE fact_sales_{latest + 4} AS ENUM ('a')", f"DROP TYPE fact_sales_{latest + 4}")]
    with changed("dwh", *mine, setting("dwh", "search_path", path)):
        for _number in range(2):
            execute("dwh", "DELETE FROM etl_load")
            execute("dwh", "DELETE FROM fact_sales")  # the next run builds a new table
            run_etl()
        changes.apply(20, seed=3)
        run_etl()
        for name in names:
            assert select("dwh", f"SELECT mine FROM public.{name}") == [(7,)], name
    assert_warehouse_equals(compute_expected())


def test_tables_with_the_names_of_ours_stay_on_sqlite(small_shop: None) -> None:
    if connections["dwh"].vendor != "sqlite":
        pytest.skip("concerns SQLite")
    with changed("dwh", ("CREATE TABLE main.stage_fact_sales AS SELECT 7 AS mine", "DROP TABLE main.stage_fact_sales")):
        run_etl()
        assert select("dwh", "SELECT mine FROM main.stage_fact_sales") == [(7,)]
    assert_warehouse_equals(compute_expected())


def test_indexes_and_keys_that_others_named(small_shop: None, postgresql: None) -> None:
    """An index whose name looks like a key's is built, too, and a key of another name is found."""
    renamed = ("ALTER INDEX etl_order_pkey RENAME TO orders_read", "ALTER INDEX orders_read RENAME TO etl_order_pkey")
    built = "SELECT count(*) FROM pg_index WHERE indrelid = (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'fact_sales'::regclass)"
    with changed("dwh", ("CREATE INDEX sales_pkey_day ON fact_sales (date_key, order_id)", "DROP INDEX sales_pkey_day"), renamed):
        before = select("dwh", built)
        run_etl()
        assert select("dwh", built) == before
        assert select("dwh", "SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = 'orders_read'::regclass") == [("etl_order",)]
    assert_warehouse_equals(compute_expected())


def test_load_does_not_wait_for_that_of_another_warehouse(small_shop: None, postgresql: None) -> None:
    other = connections["dwh"].copy()
    with other.cursor() as cursor:
        for lock in ("7301015", "(7301015::bigint << 32)", "(7301015::bigint << 32) + 1"):
            cursor.execute(f"SELECT pg_advisory_lock({lock})")
        run_etl()
    other.close()


def test_catalogue_of_mysql_finds_the_very_table(mysql: None) -> None:
    """Names that differ in case or accents only, here and in another database, have other columns and another engine."""
    if select("orders_db", "SELECT @@lower_case_table_names") != [(0,)]:
        pytest.skip("the server takes these names for one")
    tables = [
        ("CREATE TABLE Orders (id varchar(9), other int) ENGINE=MyISAM", "DROP TABLE Orders"),
        ("CREATE TABLE `órders` (id date)", "DROP TABLE `órders`"),
        (f"CREATE DATABASE {database('orders_db').upper()}", f"DROP DATABASE {database('orders_db').upper()}"),
        (f"CREATE TABLE {database('orders_db').upper()}.orders (id date) ENGINE=MyISAM", "SELECT 1"),
    ]
    with changed("orders_db", *tables):
        assert preflight() == []


# --- Preconditions: the same text in the preflight and in ping ---


@pytest.fixture
def limited(postgresql: None) -> Iterator[str]:
    """Let sessions of the warehouse be of a role with the rights that a run needs and no others. Yield its name."""
    name = f"limited_{database('dwh')}"
    for table, check in select("dwh", CHECKS_ON_DAYS):  # of partitions that other tests have left
        execute("dwh", f'ALTER TABLE {table} DROP CONSTRAINT "{check}"')
    execute("dwh", f'CREATE ROLE "{name}"')
    execute("dwh", f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{name}"')
    try:
        yield name
    finally:
        connections.close_all()
        execute("dwh", f'DROP OWNED BY "{name}"')
        execute("dwh", f'DROP ROLE "{name}"')


def role(name: str) -> tuple[str, str]:
    return f'ALTER DATABASE {database("dwh")} SET role = "{name}"', f"SET ROLE NONE; ALTER DATABASE {database('dwh')} RESET role"


def test_role_without_ownership_loads_slowly(small_shop: None, limited: str) -> None:
    with changed("dwh", role(limited)):
        (warning,) = preflight()
        assert (warning.table, warning.passed, warning.blocking) == ("fact_sales", False, False)
        run_etl()
        assert preflight() == []
        changes.apply(20, seed=3)
        run_etl()
        assert_warehouse_equals(compute_expected())


def test_role_without_ownership_gives_keys_to_members_that_no_source_has(small_shop: None, limited: str) -> None:
    """Those of dimensions' rows are reserved in the transaction in which facts are looked up, too."""
    OrderItem.objects.filter(pk=OrderItem.objects.filter(order__status="paid").latest("pk").pk).update(product_id=777)
    with changed("dwh", role(limited)):
        run_etl()
    assert_warehouse_equals(compute_expected())


def test_role_without_ownership_learns_whose_constraint_a_moved_order_breaks(small_shop: None, limited: str, settings: Any) -> None:
    settings.ETL_BATCH_ORDERS = 1
    run_etl()
    order = Order.objects.get(pk=FactSales.objects.order_by("order_id")[0].order_id)
    Order.objects.filter(pk=order.pk).update(order_date=order.order_date.replace(year=order.order_date.year + 1))
    with changed("dwh", role(limited)), pytest.raises(AccessDenied, match=f"denies user {limited} to drop constraints of ") as refused:
        run_etl("incremental")
    statement = re.findall("`(.+)`", str(refused.value))[0]
    with changed("dwh", role(limited)):
        execute("dwh", f"SET ROLE NONE; {statement}")
        connections.close_all()
        run_etl("incremental")
    assert_warehouse_equals(compute_expected())


def test_leftovers_of_another_role_stop_no_run(small_shop: None, limited: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise EtlError("Not now.")

    with monkeypatch.context() as patched, pytest.raises(EtlError):
        patched.setattr(publishing, "apply_brakes", fail)
        run_etl()
    assert Prepared.objects.exists()
    with changed("dwh", role(limited)):
        run_etl()
    assert_warehouse_equals(compute_expected())
    assert Prepared.objects.exists()
    drop_leftovers()  # as the owner again
    assert not Prepared.objects.exists()


@pytest.mark.parametrize("right", ["SELECT", "INSERT", "UPDATE", "DELETE"])
def test_missing_right_on_a_table_is_named(limited: str, right: str) -> None:
    for table in ("dim_employee", "etl_line_cost"):
        revoked = (f'REVOKE {right} ON {table} FROM "{limited}"', f'GRANT {right} ON {table} TO "{limited}"')
        fix = rf"denies user {limited} {right} on {table}. Run `GRANT {right} ON {table} TO {limited}`"
        with changed("dwh", revoked, role(limited)), pytest.raises(AccessDenied, match=fix):
            preflight()


def test_missing_right_to_temporary_tables_is_named(limited: str) -> None:
    name = database("dwh")
    everybody = (f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC", f"GRANT TEMPORARY ON DATABASE {name} TO PUBLIC")
    fix = f"Run `GRANT TEMPORARY ON DATABASE {name} TO {limited}` there"
    with changed("dwh", everybody, role(limited)), pytest.raises(AccessDenied, match=fix):
        preflight()


def test_missing_right_to_the_schema_is_named(limited: str) -> None:
    everybody = ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO PUBLIC")
    fix = f"Run `GRANT USAGE ON SCHEMA public TO {limited}` there"
    with changed("dwh", everybody, role(limited)), pytest.raises(AccessDenied, match=fix):
        preflight()


def test_rows_that_a_policy_hides_are_refused(limited: str, small_shop: None) -> None:
    policy = ("ALTER TABLE dim_customer ENABLE ROW LEVEL SECURITY", "ALTER TABLE dim_customer DISABLE ROW LEVEL SECURITY")
    with changed("dwh", policy, role(limited)):
        assert_refused(Misconfigured, "row-level security may hide rows of dim_customer", f"ALTER ROLE {limited} BYPASSRLS")


@pytest.mark.parametrize("alias", OWN)
def test_read_only_database_is_refused(postgresql: None, alias: str) -> None:
    with changed(alias, (f"ALTER DATABASE {database(alias)} SET default_transaction_read_only = on", "SELECT 1")):
        try:
            with pytest.raises(ReadOnly, match="is read-only"):
                check_server(alias)
        finally:
            execute(alias, "SET default_transaction_read_only = off")
            execute(alias, f"ALTER DATABASE {database(alias)} RESET default_transaction_read_only")
            connections[alias].close()


def test_collation_under_which_different_texts_are_equal_is_refused(postgresql: None) -> None:
    loose = "CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    table = "ALTER TABLE dim_customer ALTER email TYPE varchar(254) COLLATE"
    with changed("dwh", (loose, "DROP COLLATION public.loose"), (f"{table} public.loose", f'{table} "default"')):
        fix = '`ALTER TABLE dim_customer ALTER email TYPE character varying(254) COLLATE "default"`'
        assert_refused(Misconfigured, "different texts are equal in dim_customer.email under its collation, loose", fix)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.parametrize("alias", OWN)
def test_database_of_another_encoding_is_refused(postgresql: None, alias: str, encoding: str) -> None:
    name = f"{database(alias)}_ascii"
    options = f"TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
    execute(alias, f"CREATE DATABASE {name} {options}")
    own = connections[alias].settings_dict
    try:
        connections[alias].close()
        connections[alias].settings_dict = own | {"NAME": name}
        with pytest.raises(Misconfigured, match=rf"has the encoding {encoding}, .*ENCODING 'UTF8' TEMPLATE template0.*_URL\."):
            check_server(alias)
        connections[alias].close()
    finally:
        connections[alias].settings_dict = own
        execute(alias, f"DROP DATABASE {name} WITH (FORCE)")


def test_small_packets_of_a_source_are_refused(mysql: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest query stands in for a small packet: a server's setting would meet the other tests."""
    (found,) = select("orders_db", "SELECT @@max_allowed_packet")[0]
    monkeypatch.setattr(preconditions, "LARGEST_QUERY", found + 1)
    with pytest.raises(Misconfigured, match=f"max_allowed_packet is {found} bytes"):
        check_server("orders_db")
    connections["orders_db"].close()


@pytest.mark.parametrize("alias", ["default", "dwh", "orders_db"])
def test_old_server_is_refused(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such server is here."""
    versions = {"postgresql": (14, 9), "mysql": (5, 7, 44), "sqlite": (3, 37, 2)}
    connection = connections[alias]
    connection.ensure_connection()
    monkeypatch.setattr(type(connection), "get_database_version", lambda self: versions[self.vendor])
    with pytest.raises(Misconfigured, match=r" or later is required \(found [0-9.]+\)\. Upgrade the server, or correct [A-Z_]+_URL\."):
        check_server(alias)


def test_server_that_django_refuses_at_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db.backends.base import base

    monkeypatch.setattr(base, "RAN_DB_VERSION_CHECK", set())
    connection = connections["orders_db"]
    connection.close()
    monkeypatch.setattr(connection.features, "minimum_database_version", (99, 1))
    with pytest.raises(
        Misconfigured, match=r"99\.1 or later is required \(found [0-9.]+\)\. Upgrade the server, or correct ORDERS_DB_URL\."
    ):
        check_server("orders_db")


def test_ping_shows_what_the_preflight_warns_of(small_shop: None, limited: str, capsys: pytest.CaptureFixture[str]) -> None:
    with changed("dwh", role(limited)):
        call_command("ping", "--databases", "--json")
        printed = capsys.readouterr()
    by_name = {part["name"]: part for part in json.loads(printed.out)["parts"]}
    assert by_name["dwh"]["rights"] == "write" and by_name["dwh"]["trouble"] == ""
    (warning,) = by_name["dwh"]["warnings"]
    assert warning in printed.err.splitlines() and "fact_sales" in warning


def test_tables_of_others_in_our_schema_do_not_make_us_read_only(limited: str, capsys: pytest.CaptureFixture[str]) -> None:
    with changed("dwh", ("CREATE TABLE someone_elses (id int)", "DROP TABLE someone_elses"), role(limited)):
        call_command("ping", "--databases", "--json")
    by_name = {part["name"]: part for part in json.loads(capsys.readouterr().out)["parts"]}
    assert by_name["dwh"]["rights"] == "write"


def test_migrations_are_refused_where_tables_would_come_elsewhere(postgresql: None) -> None:
    with changed("dwh", *schema("two"), setting("dwh", "search_path", "two, public")):
        with pytest.raises(SystemExit) as stopped:
            call_command("migrate_all")
        assert stopped.value.code == 4
        assert select("dwh", "SELECT count(*) FROM pg_class WHERE relnamespace = 'two'::regnamespace") == [(0,)]
        assert preflight() == []
    assert FactSales.objects.count() == 0
