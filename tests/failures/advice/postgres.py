"""Causes on PostgreSQL: rights, schemas, settings, locks and sessions that end."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from django.conf import settings

from apps.etl.load.publication import LOAD_LOCK
from tests.drills.proxy import Proxy
from tests.failures.advice.steps import Command, Scene, run_statement
from tests.failures.conftest import SECRET, Shop, administer, copy_database
from tests.servers import with_database

FULL = ("run_etl", "--quiet", "--mode", "full")


@contextmanager
def role(shop: Shop, alias: str = "dwh") -> Iterator[tuple[str, dict[str, str]]]:
    """Create a role with all rights on the tables; yield it and the environment in which a command is this role."""
    name = f"writer_{os.getpid()}"
    administer(alias, f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    try:
        shop.sql(alias, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
        shop.sql(alias, f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}")
        where = shop.urls[alias].split("@", 1)[1]
        yield name, {settings.VARIABLES[alias]: f"postgres://{name}:{SECRET}@{where}"}
    finally:
        shop.sql(alias, f"DROP OWNED BY {name}")
        administer(alias, f"DROP ROLE {name}")


# --- Schemas and rights: the statement of the advice is run ---


def no_schema(shop: Shop) -> Scene:
    with role(shop) as (_, env):
        shop.sql("dwh", "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
        advice = yield Command(env=env)
        run_statement(shop, "dwh", advice)
        yield Command(env=env)


def two_schemas(shop: Shop) -> Scene:
    shop.sql("dwh", "CREATE SCHEMA two")
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET search_path = two, public")
    command = Command(("migrate_all", "-v", "0"))
    advice = yield command
    run_statement(shop, "dwh", advice)
    yield command
    administer("dwh", f"ALTER ROLE test IN DATABASE {shop.name('dwh')} RESET search_path")


def foreign_table(shop: Shop) -> Scene:
    shop.sql("dwh", "CREATE SCHEMA aaa")
    shop.sql("dwh", "CREATE TABLE aaa.dim_region (LIKE public.dim_region)")
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET search_path = aaa, public")
    advice = yield Command()
    run_statement(shop, "dwh", advice)
    yield Command()


def missing_rights(shop: Shop) -> Scene:
    with role(shop) as (name, env):
        shop.sql("dwh", f"REVOKE INSERT, DELETE ON dim_region FROM {name}")
        advice = yield Command(env=env)
        run_statement(shop, "dwh", advice)
        yield Command(env=env)


def no_temporary_tables(shop: Shop) -> Scene:
    with role(shop) as (_, env):
        administer("dwh", f"REVOKE TEMPORARY ON DATABASE {shop.name('dwh')} FROM PUBLIC")
        advice = yield Command(env=env)
        run_statement(shop, "dwh", advice)
        yield Command(env=env)


def hidden_rows(shop: Shop) -> Scene:
    with role(shop) as (_, env):
        shop.sql("dwh", "ALTER TABLE dim_region ENABLE ROW LEVEL SECURITY")
        advice = yield Command(env=env)
        run_statement(shop, "dwh", advice)
        yield Command(env=env)


def hidden_rows_of_everybody(shop: Shop) -> Scene:
    """The second of the two statements."""
    with role(shop) as (_, env):
        shop.sql("dwh", "ALTER TABLE dim_region ENABLE ROW LEVEL SECURITY")
        advice = yield Command(env=env)
        run_statement(shop, "dwh", advice, 1)
        yield Command(env=env)


def loose_collation(shop: Shop) -> Scene:
    shop.sql("dwh", "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    shop.sql("dwh", "ALTER TABLE dim_customer ALTER email TYPE varchar(254) COLLATE loose")
    advice = yield Command()
    run_statement(shop, "dwh", advice)
    yield Command()


def replica_role(shop: Shop) -> Scene:
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET session_replication_role = replica")
    advice = yield Command()
    run_statement(shop, "dwh", advice)
    yield Command()
    administer("dwh", f"ALTER ROLE test IN DATABASE {shop.name('dwh')} RESET session_replication_role")


def add_trigger(shop: Shop, action: str, table: str = "etl_load") -> None:
    """Let somebody's own trigger, as warehouses have them for audits, do something that may fail."""
    shop.sql("dwh", f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {action}; RETURN NEW; END$$")
    shop.sql("dwh", f"CREATE TRIGGER note BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION note()")


def denied(shop: Shop) -> Scene:
    with role(shop) as (name, env):
        shop.sql("dwh", "CREATE TABLE notes (n int)")
        add_trigger(shop, "INSERT INTO notes VALUES (1)")
        yield Command(env=env)
        shop.sql("dwh", f"GRANT INSERT ON notes TO {name}")
        yield Command(env=env)


def missing_schema(shop: Shop) -> Scene:
    add_trigger(shop, "CREATE TABLE audit.notes AS SELECT 1")
    yield Command()
    shop.sql("dwh", "CREATE SCHEMA audit")
    yield Command()


def refused_value(shop: Shop) -> Scene:
    """Somebody's trigger expects a number in an e-mail address."""
    add_trigger(shop, "IF NEW.email LIKE 'four%' THEN PERFORM substr(NEW.email, 1, 4)::int; END IF", "dim_customer")
    shop.sql("orders_db", "UPDATE customers SET email = concat('four', email) WHERE id = 1")
    shop.sql("dwh", "DELETE FROM fact_sales WHERE customer_key IN (SELECT customer_key FROM dim_customer WHERE customer_id = 1)")
    shop.sql("dwh", "DELETE FROM dim_customer WHERE customer_id = 1")
    yield Command(FULL)
    shop.sql("orders_db", "UPDATE customers SET email = substr(email, 5) WHERE id = 1")
    yield Command(FULL)


def other_encoding(shop: Shop) -> Scene:
    """A database is created as the advice says, and the tables are made there."""
    name = f"{shop.name('dwh')}_other"
    administer("dwh", f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    env = {"DWH_URL": with_database(shop.urls["dwh"], name)}
    command = Command(("migrate_all", "-v", "0"), env)
    try:
        advice = yield command
        assert "`ENCODING 'UTF8' TEMPLATE template0`" in advice
        administer("dwh", f"DROP DATABASE {name}")
        administer("dwh", f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        yield command
    finally:
        administer("dwh", f"DROP DATABASE {name} WITH (FORCE)")


def missing_database(shop: Shop) -> Scene:
    """Created, it lacks the tables; that advice's step makes them."""
    name = f"{shop.name('dwh')}_new"
    env = {"DWH_URL": with_database(shop.urls["dwh"], name)}
    try:
        yield Command(("kpis",), env)
        administer("dwh", f"CREATE DATABASE {name}")
        following = shop.run("kpis", env=env)
        assert following.stderr.endswith("Run `manage.py migrate_all`.\n")
        assert shop.run("migrate_all", "-v", "0", env=env).returncode == 0
        yield Command(("kpis",), env)
    finally:
        administer("dwh", f"DROP DATABASE {name} WITH (FORCE)")


def dropped_database(shop: Shop) -> Scene:
    """Restored from a copy."""
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} RENAME TO {shop.name('dwh')}_gone")
    yield Command()
    copy_database("dwh", f"{shop.name('dwh')}_gone", shop.name("dwh"))
    administer("dwh", f"DROP DATABASE {shop.name('dwh')}_gone")
    yield Command()


def read_only(shop: Shop) -> Scene:
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET default_transaction_read_only = on")
    yield Command()
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET default_transaction_read_only = off")
    yield Command()


def read_only_primary(shop: Shop) -> Scene:
    """The second step: another server is named."""
    name = f"{shop.name('dwh')}_standby"
    copy_database("dwh", shop.name("dwh"), name)
    administer("dwh", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        yield Command(env={"DWH_URL": with_database(shop.urls["dwh"], name)})
        yield Command()
    finally:
        administer("dwh", f"DROP DATABASE {name} WITH (FORCE)")


def server_limit(shop: Shop) -> Scene:
    """A sort that needs more room on disk than the server grants."""
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET temp_file_limit = '64kB'")
    add_trigger(shop, "PERFORM count(*) FROM (SELECT g FROM generate_series(1, 500000) AS g ORDER BY -g) AS sorted")
    yield Command()
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET temp_file_limit = -1")
    yield Command()


# --- Locks: the other session ends ---


def locked_table(shop: Shop) -> Scene:
    with closing(shop.connect("dwh")) as other:
        other.execute("LOCK TABLE fact_sales IN SHARE MODE")
        yield Command()
        other.rollback()
    yield Command()


def deadlock(shop: Shop) -> Scene:
    """The other session holds the fact and then waits for what the load holds, and looks for a deadlock later than the load does."""
    with closing(shop.connect("dwh")) as other:
        other.execute("SET deadlock_timeout = '1min'")
        other.execute("LOCK TABLE fact_sales IN SHARE MODE")
        lock = f"SELECT pg_advisory_xact_lock(({LOAD_LOCK}::bigint << 32) + 'etl_load'::regclass::oid::bigint)"
        thread = threading.Thread(target=lambda: (wait_for_lock(shop), other.execute(lock)))
        thread.start()
        yield Command()
        thread.join()
    yield Command()


WAITING = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'techmarket' AND wait_event_type = 'Lock'"


def wait_for_lock(shop: Shop) -> None:
    while not shop.sql("dwh", f"SELECT 1 {WAITING}"):
        time.sleep(0.01)


# --- Sessions and statements that end: the command is run again ---


@contextmanager
def in_the_background(action: Any) -> Iterator[None]:
    """Call `action` every few milliseconds."""
    stop = threading.Event()

    def act() -> None:
        while not stop.wait(0.01):
            action()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ended_session(shop: Shop) -> Scene:
    """In a statement, which waits for a lock."""
    with closing(shop.connect("dwh")) as other, in_the_background(lambda: shop.sql("dwh", f"SELECT pg_terminate_backend(pid) {WAITING}")):
        other.execute("LOCK TABLE fact_sales IN SHARE MODE")
        yield Command()
    yield Command()


def cancelled_statement(shop: Shop) -> Scene:
    with closing(shop.connect("dwh")) as other, in_the_background(lambda: shop.sql("dwh", f"SELECT pg_cancel_backend(pid) {WAITING}")):
        other.execute("LOCK TABLE fact_sales IN SHARE MODE")
        yield Command()
    yield Command()


class BusyProxy(Proxy):
    """Closes the first connection in the middle of the login."""

    def accept(self) -> None:
        with suppress(OSError):
            client, _ = self.listener.accept()
            client.recv(8)  # libpq asks for encryption first
            client.close()
        super().accept()


def refused_once(shop: Shop) -> Scene:
    with BusyProxy(shop.urls["dwh"]) as proxy:
        env = {"DWH_URL": f"{proxy.url}?sslmode=disable"}
        yield Command(("kpis",), env)
        yield Command(("kpis",), env)


def refusing_trigger(shop: Shop) -> Scene:
    add_trigger(shop, "RAISE EXCEPTION 'no loads on Sundays'")
    yield Command()
    shop.sql("dwh", "DROP TRIGGER note ON etl_load")
    yield Command()
