"""What only servers do: rights, locks, standbys, disks of their own, and connections that are cut in the middle."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings

from tests.failures.conftest import SECRET, SLOW, Shop, administer, cut_postgres, ended, needs_root, needs_servers, one_sentence
from tests.failures.test_databases import fill, refused, small_disk, succeeds
from tests.failures.test_interrupts import warehouse_held

pytestmark = needs_servers


@pytest.fixture
def reader(shop: Shop) -> Iterator[str]:
    """A user of MySQL and one of PostgreSQL of the same name, who may connect and nothing else."""
    name = f"reader_{os.getpid()}"
    administer("auth_db", f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{SECRET}'")
    administer("dwh", f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield name
    administer("auth_db", f"DROP USER {name}@'127.0.0.1'")
    shop.sql("dwh", f"DROP OWNED BY {name}")
    administer("dwh", f"DROP ROLE {name}")


def as_reader(shop: Shop, alias: str, name: str) -> dict[str, str]:
    scheme, rest = shop.urls[alias].split("://")
    return {settings.VARIABLES[alias]: f"{scheme}://{name}:{SECRET}@{rest.split('@', 1)[1]}"}


# --- Rights ---


def test_source_that_denies_a_table(shop: Shop, reader: str) -> None:
    database = shop.name("orders_db")
    env = as_reader(shop, "orders_db", reader)
    refused(shop, 4, "orders_db (127.0.0.1:", f"refuses user '{reader}' this database. Grant it SELECT there.", env=env)
    for table in ("customers", "employees", "order_items", "regions"):
        administer("orders_db", f"GRANT SELECT ON {database}.{table} TO {reader}@'127.0.0.1'")
    refused(shop, 4, f"denies user '{reader}' a table: SELECT command denied", "orders", "Grant it there.", env=env)
    administer("orders_db", f"GRANT SELECT (id, status) ON {database}.orders TO {reader}@'127.0.0.1'")
    refused(shop, 4, f"denies user '{reader}' a column: SELECT command denied", "Grant it there.", env=env)
    administer("orders_db", f"GRANT SELECT ON {database}.orders TO {reader}@'127.0.0.1'")
    assert shop.run("run_etl", "--resume", "2", env=env).returncode == 0


def test_source_needs_no_more_than_reading_and_the_warehouse_says_what_it_needs(shop: Shop, reader: str) -> None:
    env = as_reader(shop, "dwh", reader)
    refused(shop, 4, "dwh (127.0.0.1:", f"denies user '{reader}' this: permission denied for table", "Grant it.", env=env)
    shop.sql("dwh", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    refused(shop, 4, f"denies user '{reader}' this: permission denied for table", "Grant it.", env=env)


def test_role_that_there_is_not(shop: Shop) -> None:
    refused(shop, 4, "refuses user 'nosuchrole' or its password. Correct DWH_URL.", env=as_reader(shop, "dwh", "nosuchrole"))


# --- A warehouse that takes no rows ---


def test_warehouse_that_is_a_standby(shop: Shop) -> None:
    """As one looks from outside: every transaction is read-only."""
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET default_transaction_read_only = on")
    refused(shop, 4, "is read-only (a standby, or default_transaction_read_only). Correct DWH_URL.")
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} RESET default_transaction_read_only")
    succeeds(shop, "--resume", "2")


def test_warehouse_that_the_address_makes_read_only(shop: Shop) -> None:
    url = f"{shop.urls['dwh']}?options={quote('-c default_transaction_read_only=on')}"
    refused(shop, 4, "is read-only", env={"DWH_URL": url})


@needs_root
def test_warehouse_on_a_disk_that_is_full(shop: Shop, tmp_path: Path) -> None:
    """A tablespace on a disk of 24 MB, which something else fills before the load."""
    folder = Path("/tmp") / f"bad_disk_{os.getpid()}"  # where the server's own user may come
    name = f"small_{os.getpid()}"
    with small_disk(folder, 24) as disk:
        space = disk / "space"
        space.mkdir()
        shutil.chown(space, "nobody")
        try:
            administer("dwh", f"CREATE TABLESPACE {name} LOCATION '{space}'")
        except Exception as error:
            pytest.skip(f"the server cannot have a tablespace here: {error}")
        try:
            administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET TABLESPACE {name}")
            fill(disk, leave=200_000)
            refused(
                shop, 1, "dwh (127.0.0.1:", "is full: could not extend file", "Free space there, then run it again.", cause_kind="machine"
            )
            (disk / "ballast").unlink()
            succeeds(shop, "--resume", "2")
        finally:
            administer("dwh", f"ALTER DATABASE {shop.name('dwh')} SET TABLESPACE pg_default")
            administer("dwh", f"DROP TABLESPACE {name}")


# --- Locks ---


@pytest.mark.parametrize("lock", ["ACCESS EXCLUSIVE", "SHARE"])
def test_lock_on_the_fact(shop: Shop, lock: str) -> None:
    """The one already stops the checks before the reading, the other the load."""
    with closing(shop.connect("dwh")) as other:
        other.execute(f"LOCK TABLE fact_sales IN {lock} MODE")
        result = shop.run("run_etl")
        other.rollback()
    one_sentence(result, 1, "another session holds a lock on the star; nothing was published. Run it again when it has ended.")
    assert (shop.runs()[-1]["state"], shop.runs()[-1]["cause"]) == ("failed", result.stderr.strip())
    succeeds(shop, "--resume", "2")


def test_lock_on_a_source(shop: Shop) -> None:
    env = {"ORDERS_DB_URL": f"{shop.urls['orders_db']}?read_timeout=2"}
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES orders WRITE")
        refused(shop, 1, "orders_db (127.0.0.1:", "nothing was published. Run it again.", env=env, cause_kind="machine")
    succeeds(shop, "--resume", "2")


# --- Cut ---


def test_warehouse_cuts_the_load(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env={"ETL_BATCH_ORDERS": "100"})
    shop.waits_for(shop.running("extract"), process)
    with warehouse_held(shop):
        shop.waits_for(shop.running("load"), process)
        time.sleep(0.2)
        cut_postgres(shop, "dwh")
        result = ended(process)
    one_sentence(result, 1, "dwh (127.0.0.1:", "nothing was published. Run it again.")
    failed(shop, result.stderr, before)


def test_control_database_cuts_a_run(shop: Shop) -> None:
    """It comes back, so the ledger has the cause all the same."""
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=SLOW)
    shop.waits_for(shop.running("transform"), process)
    cut_postgres(shop, "default")
    result = ended(process)
    one_sentence(result, 1, "control database (127.0.0.1:", ". Run it again.")
    failed(shop, result.stderr, before)


def test_source_cuts_an_extract(shop: Shop) -> None:
    before = shop.warehouse()
    process = shop.start("run_etl", "--mode", "full", env=SLOW)
    shop.waits_for(shop.running("extract"), process)
    with closing(shop.connect("orders_db")) as other, other.cursor() as cursor:
        while process.poll() is None:
            query = "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
            cursor.execute(query, [shop.name("orders_db")])
            for (number,) in cursor.fetchall():
                try:
                    cursor.execute(f"KILL {number}")
                except other.OperationalError:
                    continue  # it has gone by itself
    result = ended(process)
    one_sentence(result, 1, "orders_db (127.0.0.1:", "closed the connection; nothing was published. Run it again.")
    failed(shop, result.stderr, before)


def failed(shop: Shop, said: str, before: str) -> None:
    run = shop.runs()[-1]
    assert (run["id"], run["state"], run["cause"], run["cause_kind"]) == (2, "failed", said.strip(), "machine")
    assert not shop.tasks("running")
    assert shop.warehouse() == before
    succeeds(shop, "--resume", "2")
