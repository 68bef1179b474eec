"""The shop of tests/bad, with what it needs to lose all it has and to be asked what it holds."""

import os
from contextlib import closing
from pathlib import Path

from django.conf import settings

from tests.bad import conftest as bad
from tests.bad.conftest import FILES, ON_SERVERS, Shop, administer
from tests.servers import mysql, postgresql

shop, template = bad.shop, bad.template  # the fixtures
Contents = dict[str, dict[str, list[str]]]


def tables(shop: Shop, alias: str) -> list[str]:
    if not ON_SERVERS:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    elif alias in settings.SOURCES:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    else:
        query = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    return sorted(row[0] for row in shop.sql(alias, query))


def contents(shop: Shop) -> Contents:
    """Every row of every table of every database."""
    return {
        alias: {table: sorted(map(repr, shop.sql(alias, f"SELECT * FROM {table}"))) for table in tables(shop, alias)} for alias in FILES
    }


def wipe(shop: Shop, *aliases: str) -> None:
    """The databases are there, and nothing is in them."""
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


def backed_up(shop: Shop, *options: str) -> Path:
    """The newest backup, just made."""
    result = shop.run("backup", *options)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return backups(shop)[-1]


def backups(shop: Shop) -> list[Path]:
    return sorted(path for path in (shop.folder / "backups").iterdir() if path.name != ".lock")


def neighbours() -> set[str]:
    """The databases of both servers, to see that no throwaway one is left."""
    if not ON_SERVERS:
        return set()
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as sources, sources.cursor() as cursor:
        cursor.execute("SHOW DATABASES")
        found = {row[0] for row in cursor.fetchall()}
    with closing(postgresql(os.environ["TEST_POSTGRES_URL"])) as warehouse:
        return found | {row[0] for row in warehouse.execute("SELECT datname FROM pg_database").fetchall()}
