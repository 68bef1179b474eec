"""The shop of tests/failures, with helpers to read, delete and back up all its databases."""

import os
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings

from tests.backups.age import Key
from tests.failures import conftest as failures
from tests.failures.conftest import FILES, ON_SERVERS, Shop, administer
from tests.servers import mysql, postgresql

shop, template = failures.shop, failures.template  # the fixtures
LEFT_EMPTY = ("orchestration_batch", "django_session", "auth_tokens")
Contents = dict[str, dict[str, list[str]]]


@pytest.fixture(params=["plain", "encrypted"])
def encryption(shop: Shop, request: pytest.FixtureRequest) -> None:
    """Run the test with plain backups, and with encrypted ones for which the commands have the key."""
    if request.param == "encrypted":
        key = Key(shop.folder / "key.txt")
        shop.env |= {"BACKUP_RECIPIENT": key.recipient, "BACKUP_IDENTITY_FILE": str(key.file)}


def list_tables(shop: Shop, alias: str) -> list[str]:
    if not ON_SERVERS:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    elif alias in settings.SOURCES:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    else:
        query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    return sorted(row[0] for row in shop.sql(alias, query))


def read_contents(shop: Shop) -> Contents:
    """Return every row of every database, without those that no backup has, and the audit log, to which a restore adds."""
    return {
        alias: {
            table: sorted(map(repr, shop.sql(alias, f"SELECT * FROM {table}")))
            for table in list_tables(shop, alias)
            if table not in (*LEFT_EMPTY, "audit_entry", "audit_head")
        }
        for alias in FILES
    }


def wipe(shop: Shop, *aliases: str) -> None:
    """Drop and recreate the databases, all of them by default."""
    for alias in aliases or FILES:
        if not ON_SERVERS:
            for file in shop.folder.glob(f"{FILES[alias]}.sqlite3*"):
                file.unlink()
        elif alias in settings.SOURCES:
            administer(alias, f"DROP DATABASE {shop.name(alias)}")
            administer(alias, f"CREATE DATABASE {shop.name(alias)} CHARACTER SET utf8mb4")
        else:
            administer(alias, f"DROP DATABASE {shop.name(alias)} WITH (FORCE)")
            administer(alias, f"CREATE DATABASE {shop.name(alias)}")


def make_backup(shop: Shop, *options: str) -> Path:
    """Run the backup command and return the new backup."""
    result = shop.run("backup", *options)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return list_backups(shop)[-1]


def list_backups(shop: Shop) -> list[Path]:
    return sorted(path for path in (shop.folder / "backups").iterdir() if path.name != ".lock")


def list_databases(shop: Shop) -> set[str]:
    """Return the databases of both servers that are named after one of this shop's, to check that no throwaway one is left."""
    if not ON_SERVERS:
        return set()
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as sources, sources.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        found = [row[0] for row in cursor.fetchall()]
    with closing(postgresql(os.environ["TEST_POSTGRES_URL"])) as warehouse:
        found += [row[0] for row in warehouse.execute("SELECT datname FROM pg_database").fetchall()]
    # A throwaway one has the first 48 letters of the name (apps/backups/stores).
    return {name for name in found if name.startswith(tuple(shop.name(alias)[:48] for alias in FILES))}
