"""Backups of databases that hold more than TechMarket reads: every type, every name, and views, triggers and routines of other users."""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.backups.conftest import list_databases, make_backup, read_contents, wipe
from tests.failures.conftest import Shop, administer, assert_one_line, needs_files, needs_servers
from tests.servers import mysql, postgresql

NAMES = ["Odd Name", "back`tick", "per%cent", "order", "with-dash", "quote'd \"x\"", "Ґанок", "semi;colon", "dot.ted"]
TYPES = {
    "flags": ("BIT(13)", "b'1010000000001'"),
    "place": ("POINT", "ST_GeomFromText('POINT(30.5 50.4)')"),
    "area": ("GEOMETRY", "ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 4,0 0))')"),
    "since": ("YEAR", "1999"),
    "lasted": ("TIME(3)", "'-838:59:59.000'"),
    "at": ("TIMESTAMP NULL", "'2026-03-29 01:30:00'"),
    "body": ("LONGBLOB", "X'00FF0A0D275C1A'"),
    "fixed": ("BINARY(4)", "X'00000000'"),
    "empty": ("VARBINARY(9)", "''"),
    "prose": ("TEXT CHARACTER SET utf8mb4", "'it''s \\\\ a\\nline\\r\\0 \\Z 😀'"),
    "latin": ("VARCHAR(9) CHARACTER SET latin1", "'é'"),
    "small": ("FLOAT", "16777217.0 / 3"),
    "large": ("DOUBLE", "1e0 / 3"),
    "wide": ("DECIMAL(65,30)", "12345678901234567890.123456789012345678901234567890"),
    "huge": ("BIGINT UNSIGNED", "18446744073709551615"),
    "kind": ("ENUM('a''b','ї')", "'ї'"),
    "several": ("SET('x','y')", "'x,y'"),
    "tree": ("JSON", """'{"a": "б\\\\n"}'"""),
}


# --- MySQL and MariaDB ---


@pytest.fixture
def source(shop: Shop) -> Any:
    """A session with the source orders_db as its administrator."""
    with closing(shop.connect("orders_db")) as connection:
        connection.autocommit(True)
        yield connection.cursor()


def create_odd_tables(cursor: Any) -> None:
    columns = ", ".join(f"`{name}` {kind}" for name, (kind, _) in TYPES.items())
    for table in ("every_type", "every_type_generated"):
        more = ", twice BIGINT AS (n * 2) STORED, half DOUBLE AS (n / 2) VIRTUAL" if "generated" in table else ""
        cursor.execute(f"CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, n INT DEFAULT 3, {columns}{more}) CHARACTER SET utf8mb4")
        names, values = ", ".join(f"`{name}`" for name in TYPES), ", ".join(value for _, value in TYPES.values())
        cursor.execute(f"INSERT INTO {table} (id) VALUES (1)")
        cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({values})")
    cursor.execute("CREATE TABLE only_generated (a INT AS (1) VIRTUAL, b INT AS (2) STORED, c INT)")
    cursor.execute("INSERT INTO only_generated (c) VALUES (5), (NULL)")
    if cursor.execute("SELECT VERSION() WHERE VERSION() NOT LIKE '%MariaDB%' AND VERSION() > '9'"):
        cursor.execute("CREATE TABLE vectors (id INT PRIMARY KEY, v VECTOR(3))")
        cursor.execute("INSERT INTO vectors VALUES (1, STRING_TO_VECTOR('[1,2.5,-3]')), (2, NULL)")
    for name in NAMES:
        quoted = f"`{name.replace('`', '``')}`"
        cursor.execute(f"CREATE TABLE {quoted} ({quoted} INT PRIMARY KEY, sum DECIMAL(9,2), g INT AS ({quoted} + 1) STORED)")
        cursor.execute(f"INSERT INTO {quoted} ({quoted}, sum) VALUES (1, 2.50), (7, -0.01)")


def create_foreign_objects(cursor: Any) -> None:
    """Views, triggers, routines and an event of an administrator, whom the restoring user may not name, and of one who is gone."""
    cursor.execute("CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(99))")
    for statement in (
        "DEFINER='root'@'localhost' FUNCTION `double it`(n INT) RETURNS INT DETERMINISTIC RETURN n * 2",
        "DEFINER='gone'@'nowhere' VIEW `z view` AS SELECT id, what FROM audit",
        "DEFINER='root'@'localhost' SQL SECURITY INVOKER VIEW `b view` AS SELECT id, `double it`(id) AS twice FROM audit",
        "VIEW `a view` AS SELECT twice FROM `b view`",
        "DEFINER='root'@'localhost' PROCEDURE `it's; a %s` () BEGIN INSERT INTO audit (what) VALUES ('a;;b\n-- c'); END",
        "DEFINER='root'@'localhost' TRIGGER every_type_log AFTER INSERT ON every_type_generated FOR EACH ROW"
        " INSERT INTO audit (what) VALUES (CONCAT('new ', NEW.id))",
        "DEFINER='root'@'localhost' TRIGGER order_log BEFORE UPDATE ON orders FOR EACH ROW BEGIN SET @seen = 1; SET @seen = 2; END",
        "DEFINER='root'@'localhost' EVENT nightly ON SCHEDULE EVERY 1 SECOND DO DELETE FROM audit",
    ):
        cursor.execute(f"CREATE {statement}")
    cursor.execute("INSERT INTO audit (what) VALUES ('by hand')")


@contextmanager
def limited_owner(shop: Shop) -> Iterator[dict[str, str]]:
    """A user with all rights on orders_db and its throwaway databases and none besides, as deploy/mysql makes one; its environment."""
    name, user = shop.name("orders_db"), f"owner_{secrets.token_hex(4)}"
    address = urlsplit(os.environ["TEST_MYSQL_URL"])
    escaped = name.replace("_", "\\_")
    administer("orders_db", f"CREATE USER {user}@'%' IDENTIFIED BY 'topsecret1'")
    for database in (escaped, f"{escaped}\\_verify\\_%"):
        administer("orders_db", f"GRANT ALL ON `{database}`.* TO {user}@'%'")
    try:
        yield {"ORDERS_DB_URL": f"mysql://{user}:topsecret1@{address.hostname}:{address.port}/{name}"}
    finally:
        administer("orders_db", f"DROP USER {user}@'%'")


def let_read_routines(env: dict[str, str]) -> None:
    """Let the owner read the routines of others."""
    user = urlsplit(env["ORDERS_DB_URL"]).username
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT VERSION()")
        right = "SELECT ON mysql.proc" if "MariaDB" in cursor.fetchone()[0] else "SHOW_ROUTINE ON *.*"
        cursor.execute(f"GRANT {right} TO {user}@'%'")


@needs_servers
def test_source_with_every_type_name_and_object_is_restored(shop: Shop) -> None:
    with closing(shop.connect("orders_db")) as connection, limited_owner(shop) as env:
        connection.autocommit(True)
        cursor = connection.cursor()
        cursor.execute("SET SESSION sql_mode = 'STRICT_TRANS_TABLES'")
        create_odd_tables(cursor)
        create_foreign_objects(cursor)
        before, others = dump_database(cursor), list_databases(shop)
        result = shop.run("backup", env=env)
        assert_one_line(result, 0, "the user may not read function double it, procedure it's; a %s, which the backup does not contain. ")
        let_read_routines(env)
        result = shop.run("backup", env=env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        folder = sorted((shop.folder / "backups").glob("2*"))[-1]
        verified = shop.run("backup", "--verify", folder.name, env=env)
        assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
        assert list_databases(shop) == others
        wipe(shop, "orders_db")
        dry = shop.run("restore", folder.name, "--only", "orders_db", "--dry-run", env=env)
        assert (dry.returncode, dry.stderr) == (0, ""), dry.stderr
        result = shop.run("restore", folder.name, "--only", "orders_db", env=env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        with closing(shop.connect("orders_db")) as restored:
            after = dump_database(restored.cursor())
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []


def dump_database(cursor: Any) -> dict[str, Any]:
    """Return all of a MySQL database by the server's own words, without definers."""
    cursor.execute("SET SESSION time_zone = '+00:00'")
    found: dict[str, Any] = {}
    cursor.execute("SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()")
    for name, kind in cursor.fetchall():
        quoted = f"`{name.replace('`', '``')}`"
        cursor.execute(f"SHOW CREATE TABLE {quoted}")
        found[f"table {name}"] = without_definer(cursor.fetchone()[1])
        if "VIEW" not in kind:
            cursor.execute(
                "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s"
                " ORDER BY ORDINAL_POSITION",
                [name],
            )
            columns = [row[0].replace("`", "``").replace("%", "%%") for row in cursor.fetchall()]
            cursor.execute(f"SELECT {', '.join(f'HEX(`{column}`)' for column in columns)} FROM {quoted}".replace("%%", "%"))
            found[f"rows {name}"] = sorted(map(repr, cursor.fetchall()))
    for what, names in (
        ("TRIGGER", "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"),
        ("FUNCTION", "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'FUNCTION'"),
        ("PROCEDURE", "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'PROCEDURE'"),
        ("EVENT", "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()"),
    ):
        cursor.execute(names)
        for (name,) in cursor.fetchall():
            cursor.execute(f"SHOW CREATE {what} `{name}`")
            row = cursor.fetchone()
            found[f"{what} {name}"] = (row[1], without_definer(row[3 if what == "EVENT" else 2]))
    return found


def without_definer(statement: str) -> str:
    return re.sub(r"DEFINER=\S+ ", "", re.sub(r" AUTO_INCREMENT=\d+", "", statement))
