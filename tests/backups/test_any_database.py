"""Backups of databases that hold more than TechMarket reads: every type, every name, and views, triggers and routines of other users."""

import gzip
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from apps.backups.stores import mysql_objects
from apps.backups.stores.mysql import filter_lines
from tests.backups.conftest import list_databases, list_tables, make_backup, wipe
from tests.failures.conftest import Shop, administer, assert_one_line, needs_files, needs_servers
from tests.servers import mysql, postgresql, with_database

NAMES = ["Odd Name", "back`tick", "per%cent", "order", "with-dash", "-lead", 'quote\'d "x"', "Ґанок", "semi;colon", "dot.ted"]
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
        "DEFINER='root'@'localhost' EVENT nightly ON SCHEDULE EVERY 1 YEAR DO DELETE FROM audit",
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
        cursor.execute("SET GLOBAL log_bin_trust_function_creators = 1")  # MySQL writes a binary log by default


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
    assert [(before[name], after[name]) for name in before if before[name] != after[name]] == []


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
    cursor.execute(
        "SELECT TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_STATEMENT, SQL_MODE"
        " FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()"
    )
    found["triggers"] = sorted(cursor.fetchall())
    for what, names in (
        (
            "FUNCTION",
            "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'FUNCTION'",
        ),
        (
            "PROCEDURE",
            "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = DATABASE() AND ROUTINE_TYPE = 'PROCEDURE'",
        ),
        ("EVENT", "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = DATABASE()"),
    ):
        cursor.execute(names)
        for (name,) in cursor.fetchall():
            cursor.execute(f"SHOW CREATE {what} `{name}`")
            row = cursor.fetchone()
            found[f"{what} {name}"] = (row[1], without_definer(row[3 if what == "EVENT" else 2]))
    return found


def without_definer(statement: str) -> str:
    """MariaDB names the database in a view whose definer is gone."""
    return re.sub(r"DEFINER=\S+ |`shop_\w+`\.| AUTO_INCREMENT=\d+", "", statement)


@contextmanager
def reader(shop: Shop, *grants: str) -> Iterator[tuple[dict[str, str], str]]:
    """A user with these grants on orders_db, its throwaway databases apart; its environment and its account."""
    with limited_owner(shop) as env:
        account = f"{urlsplit(env['ORDERS_DB_URL']).username}@'%'"
        escaped = shop.name("orders_db").replace("_", "\\_")
        administer("orders_db", f"REVOKE ALL ON `{escaped}`.* FROM {account}")
        for grant in grants:
            administer("orders_db", f"GRANT {grant} TO {account}".replace("%s", shop.name("orders_db")))
        yield env, account


def take_step(message: str) -> None:
    """Run the grants that the message names."""
    for statement in re.findall(r"GRANT .+? TO '[^']+'@'%'", message):
        administer("orders_db", statement)


@needs_servers
def test_backup_names_what_its_user_may_not_see(shop: Shop) -> None:
    """The catalog shows no trigger, no event and no routine to a reader, as if there were none."""
    for statement in (
        "TRIGGER order_log BEFORE UPDATE ON orders FOR EACH ROW SET @seen = 1",
        "EVENT nightly ON SCHEDULE EVERY 1 YEAR DO DELETE FROM orders WHERE id < 0",
        "PROCEDURE cleaned() SELECT 1",
        "VIEW paid AS SELECT id FROM orders",
    ):
        shop.sql("orders_db", f"CREATE {statement}")
    with reader(shop, "SELECT, LOCK TABLES ON `%s`.*") as (env, account):
        result = shop.run("backup", env=env)
        unseen = (
            "the user may not read view paid, any other triggers, events, procedures and functions, which the backup does not contain. "
        )
        grants = (
            f"GRANT SHOW VIEW, TRIGGER, EVENT ON `{shop.name('orders_db')}`.* TO {quote_account(account)} and GRANT SHOW_ROUTINE ON *.* TO"
        )
        assert_one_line(result, 0, unseen, f"Let its administrator run {grants}")
        take_step(result.stderr.replace(" and GRANT", "; GRANT").split("GRANT SHOW_ROUTINE")[0])
        let_read_routines(env)
        result = shop.run("backup", "--verify", env=env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        folder = sorted((shop.folder / "backups").glob("2*"))[-1]
        with gzip.open(folder / "orders_db.sql.gz", "rt") as dump:
            section = dump.read().partition(mysql_objects.SECTION)[2]
        assert re.findall(r"-- TechMarket: (\w+ \w+)\n", section) == [
            "procedure cleaned",
            "view paid",
            "trigger order_log",
            "event nightly",
        ]


@needs_servers
def test_rights_by_a_role_are_counted(shop: Shop) -> None:
    role = f"role_{secrets.token_hex(4)}"
    administer("orders_db", f"CREATE ROLE {role}")
    try:
        administer("orders_db", f"GRANT ALL ON `{shop.name('orders_db')}`.* TO {role}")
        with reader(shop) as (env, account):
            administer("orders_db", f"GRANT {role} TO {account}")
            administer("orders_db", set_default_role(role, account))
            result = shop.run("backup", env=env)
            assert (result.returncode, result.stderr) == (0, ""), result.stderr
    finally:
        administer("orders_db", f"DROP ROLE {role}")


def set_default_role(role: str, account: str) -> str:
    with closing(mysql(os.environ["TEST_MYSQL_URL"])) as connection:
        is_mariadb = "MariaDB" in connection.get_server_info()
    return f"SET DEFAULT ROLE {role} {'FOR' if is_mariadb else 'TO'} {account}"


def quote_account(account: str) -> str:
    return f"'{account.partition('@')[0]}'@'%'"


@needs_servers
def test_table_of_which_the_user_may_read_some_columns_is_named(shop: Shop) -> None:
    tables = [name for name in list_tables(shop, "orders_db") if name != "regions"]
    grants = ["LOCK TABLES, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `%s`.*", *(f"SELECT ON `%s`.{table}" for table in tables)]
    with reader(shop, *grants, "SELECT (id, name) ON `%s`.regions") as (env, account):
        result = shop.run("backup", env=env)
        grant = f"GRANT SELECT ON `{shop.name('orders_db')}`.`regions` TO {quote_account(account)}"
        assert_one_line(result, 4, "may not read all of `regions`, which a backup has to. ", f"Run {grant}, then run the command again.")
        take_step(result.stderr)
        result = shop.run("backup", "--verify", env=env)
        assert_one_line(
            result, 0, "the user may not read any tables, which the backup does not contain. Let its administrator run GRANT SELECT"
        )


@needs_servers
def test_object_that_a_backup_has_no_place_for_is_named(shop: Shop) -> None:
    with closing(shop.connect("orders_db")) as connection:
        if "MariaDB" not in connection.get_server_info():
            pytest.skip("MariaDB alone has packages")
        connection.cursor().execute("SET sql_mode = 'ORACLE'")
        connection.cursor().execute("CREATE PACKAGE bonus AS FUNCTION f RETURN INT; END")
    assert_one_line(shop.run("backup"), 0, "orders_db (", "a backup cannot contain package bonus. Save them by hand.")


@needs_servers
def test_row_longer_than_the_limit_of_a_packet_is_named(shop: Shop) -> None:
    """The dump spells bytes with two digits each: more than half of max_allowed_packet ends the connection at a restore."""
    limit = shop.sql("orders_db", "SELECT @@GLOBAL.max_allowed_packet")[0][0]
    shop.sql("orders_db", "CREATE TABLE scans (id INT PRIMARY KEY, scan LONGBLOB)")
    shop.sql("orders_db", f"INSERT INTO scans VALUES (1, REPEAT('x', {limit * 5 // 8})), (2, 'y')")
    shop.sql("orders_db", "CREATE TABLE spans (id INT PRIMARY KEY, ratio FLOAT)")
    try:
        result = shop.run("backup")
        cause = "a row is longer than its max_allowed_packet. Let its administrator run SET GLOBAL max_allowed_packet = "
        assert_one_line(result, 0, "cannot restore this backup", cause)
        folder = sorted((shop.folder / "backups").glob("2*"))[-1]
        verified = shop.run("backup", "--verify", folder.name)
        assert_one_line(verified, 4, cause, ", then run the command again.")
        shop.sql("orders_db", re.findall(r"SET GLOBAL max_allowed_packet = \d+", verified.stderr)[0])
        verified = shop.run("backup", "--verify", folder.name)
        assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    finally:
        shop.sql("orders_db", f"SET GLOBAL max_allowed_packet = {limit}")


# --- PostgreSQL ---

ODD_WAREHOUSE = r"""
CREATE SCHEMA "Other Schema";
CREATE SCHEMA reports;
CREATE EXTENSION pg_trgm;
CREATE TYPE reports.mood AS ENUM ('good', 'bad');
CREATE DOMAIN reports.cents AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TABLE "Other Schema"."per%cent ""x"" y" (
    "Id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "select" reports.cents,
    doubled numeric GENERATED ALWAYS AS ("select" * 2) STORED,
    feeling reports.mood,
    tags text[],
    label text DEFAULT 'x',
    span int4range,
    doc jsonb,
    raw bytea,
    bits bit varying(9),
    spot point,
    nothing numeric DEFAULT 'NaN',
    since timestamptz DEFAULT 'infinity'
);
INSERT INTO "Other Schema"."per%cent ""x"" y" ("select", feeling, tags, span, doc, raw, bits, spot)
VALUES (1.50, 'good', '{a,"b c",NULL}', '[1,5)', '{"a": [1, null]}', '\x00ff', B'101', '(1,2)'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE INDEX ON "Other Schema"."per%cent ""x"" y" USING gin (label gin_trgm_ops);
CREATE SEQUENCE reports.counter START 42;
SELECT nextval('reports.counter');
CREATE FUNCTION reports.twice(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE VIEW reports.seen AS SELECT "Id", reports.twice("select") AS twice FROM "Other Schema"."per%cent ""x"" y";
CREATE MATERIALIZED VIEW reports.kept AS SELECT * FROM reports.seen;
CREATE TABLE reports.parts (day date, n int) PARTITION BY RANGE (day);
CREATE TABLE reports.parts_2026 PARTITION OF reports.parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO reports.parts VALUES ('2026-05-05', 1), ('2026-05-06', 2);
CREATE FUNCTION reports.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := NEW.n + 1; RETURN NEW; END';
CREATE TRIGGER note BEFORE INSERT ON reports.parts FOR EACH ROW EXECUTE FUNCTION reports.note();
CREATE TABLE fact_sales_copy AS SELECT * FROM fact_sales LIMIT 3;
"""


def dump_schemas(shop: Shop) -> dict[str, Any]:
    """Return the rows, columns, and definitions of everything in a PostgreSQL database."""
    relations = shop.sql(
        "dwh",
        "SELECT format('%I.%I', nspname, relname), relkind FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relkind IN ('r', 'p', 'v', 'm', 'S')"
        " AND relname !~ '^pg_stat_statements' ORDER BY 1",
    )
    found: dict[str, Any] = {}
    for name, kind in relations:
        row = "last_value, is_called" if kind == "S" else "t::text"
        found[name] = sorted(map(repr, shop.sql("dwh", f"SELECT {row} FROM {name} t")))
        if kind in ("v", "m"):
            found[f"view {name}"] = shop.sql("dwh", f"SELECT pg_get_viewdef('{name}'::regclass)")
    for what, query in {
        "columns": "SELECT table_schema, table_name, column_name, data_type, is_identity, generation_expression, column_default"
        " FROM information_schema.columns WHERE table_schema !~ '^(pg_|information)'",
        "functions": "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace"
        " WHERE nspname = 'reports'",
        "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname !~ '^pg_'",
        "extensions": "SELECT extname FROM pg_extension",
    }.items():
        found[what] = sorted(map(repr, shop.sql("dwh", query)))
    return found


@contextmanager
def warehouse_owner(shop: Shop) -> Iterator[dict[str, str]]:
    """A user who owns the warehouse and everything in it and is no superuser, as deploy/postgres makes one; its environment."""
    user, address = f"owner_{secrets.token_hex(4)}", urlsplit(os.environ["TEST_POSTGRES_URL"])
    administer("dwh", f"CREATE ROLE {user} LOGIN CREATEDB PASSWORD 'topsecret1'")
    try:
        own_database(shop, user)
        yield {"DWH_URL": f"postgres://{user}:topsecret1@{address.hostname}:{address.port}/{shop.name('dwh')}"}
    finally:
        shop.sql("dwh", f"REASSIGN OWNED BY {user} TO CURRENT_USER")
        shop.sql("dwh", f"DROP OWNED BY {user}")
        administer("dwh", f"DROP ROLE {user}")


def own_database(shop: Shop, user: str) -> None:
    administer("dwh", f"ALTER DATABASE {shop.name('dwh')} OWNER TO {user}")
    shop.sql(
        "dwh",
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        f" WHERE nspname = 'public' AND relkind IN ('r', 'p', 'v', 'm') LOOP EXECUTE 'ALTER TABLE ' || r.name || ' OWNER TO {user}';"
        " END LOOP; END $$",
    )


@needs_servers
def test_warehouse_with_other_schemas_is_restored(shop: Shop) -> None:
    with warehouse_owner(shop) as env:
        with closing(postgresql(env["DWH_URL"])) as connection:
            connection.execute(ODD_WAREHOUSE)
            connection.commit()
        shop.sql("dwh", "CREATE EXTENSION pg_stat_statements; COMMENT ON EXTENSION pg_trgm IS 'another one'")
        before, others = dump_schemas(shop), list_databases(shop)
        result = shop.run("backup", "--verify", env=env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        assert list_databases(shop) == others
        folder = sorted((shop.folder / "backups").glob("2*"))[-1]
        counts = json.loads((folder / "manifest.json").read_text())["databases"]["dwh"]["tables"]
        assert counts['Other Schema.per%cent "x" y'] == {"rows": 2, "largest Id": "2", "sum of doubled": "3.00", "sum of nothing": "NaN"}
        assert counts["reports.parts"] == {"rows": 2} and "reports.parts_2026" not in counts
        assert_one_line(shop.run("restore", folder.name, "--only", "dwh", env=env), 4, "Not empty: dwh (", "Other Schema.per%cent")
        wipe(shop, "dwh")
        own_database(shop, env["DWH_URL"].split("/")[2].split(":")[0])
        untried = shop.run("restore", folder.name, "--only", "dwh", "--dry-run", env=env)
        assert_one_line(
            untried, 4, "extension pg_stat_statements cannot be created by 'owner_", "CREATE EXTENSION pg_stat_statements in shop_"
        )
        # What the dump has, too, is replaced.
        shop.sql("dwh", "CREATE EXTENSION pg_stat_statements")
        assert shop.run("migrate_all", "-v", "0", env=env).returncode == 0
        with closing(postgresql(env["DWH_URL"])) as connection:
            connection.execute("CREATE SCHEMA reports; CREATE VIEW reports.seen AS SELECT 1 AS one; CREATE SEQUENCE reports.counter")
            connection.commit()
        dry = shop.run("restore", folder.name, "--only", "dwh", "--dry-run", env=env)
        assert (dry.returncode, dry.stderr) == (0, ""), dry.stderr
        assert "tables without rows of yours would be replaced." in dry.stdout and "can be restored" in dry.stdout
        result = shop.run("restore", folder.name, "--only", "dwh", env=env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        assert {name: rows for name, rows in dump_schemas(shop).items() if rows != before.get(name)} == {}


@needs_servers
def test_warehouse_whose_name_is_a_connection_string_is_verified(shop: Shop) -> None:
    """pg_restore takes a name with = for the parameters of a connection."""
    name = f"host=elsewhere {secrets.token_hex(4)}"
    administer("dwh", f'CREATE DATABASE "{name}" TEMPLATE {shop.name("dwh")}')
    try:
        env = {"DWH_URL": with_database(os.environ["TEST_POSTGRES_URL"], quote(name))}
        result = shop.run("backup", "--verify", env=env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
    finally:
        administer("dwh", f'DROP DATABASE "{name}" WITH (FORCE)')


@needs_servers
def test_warehouse_table_that_the_user_may_not_read_is_named(shop: Shop) -> None:
    user, address, name = f"reader-{secrets.token_hex(4)}", urlsplit(os.environ["TEST_POSTGRES_URL"]), shop.name("dwh")
    administer("dwh", f"CREATE ROLE \"{user}\" LOGIN PASSWORD 'topsecret1'")
    env = {"DWH_URL": f"postgres://{user}:topsecret1@{address.hostname}:{address.port}/{name}"}
    try:
        for statement in (
            f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{user}"',
            f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO "{user}"',
            'CREATE SCHEMA "Pay roll"',
            'CREATE TABLE "Pay roll"."wages.x" (id serial PRIMARY KEY)',
            "CREATE TABLE guarded (id int)",
            f'GRANT SELECT ON guarded TO "{user}"',
        ):
            shop.sql("dwh", statement)
        result = shop.run("backup", env=env)
        problem = f'user \'{user}\' may not read "Pay roll"."wages.x", "Pay roll"."wages.x_id_seq", which a backup has to. Run '
        assert_one_line(result, 4, "dwh (", problem)
        assert list((shop.folder / "backups").glob("2*")) == []
        for statement in re.findall(r'GRANT [^;]+? TO "[^"]+"', result.stderr):
            shop.sql("dwh", statement)
        assert shop.run("backup", env=env).stderr == ""
        shop.sql("dwh", "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY")
        result = shop.run("backup", env=env)
        assert_one_line(result, 4, f"row security hides rows of public.guarded from user '{user}'. Run ")
        administer("dwh", re.findall(r"ALTER ROLE .+? BYPASSRLS", result.stderr)[0])
        assert shop.run("backup", env=env).stderr == ""
        folder = sorted((shop.folder / "backups").glob("2*"))[-1]
        refused = shop.run("backup", "--verify", folder.name, env=env)
        assert_one_line(refused, 4, "may not create a throwaway database. Run ALTER ROLE")
        administer("dwh", re.findall(r"ALTER ROLE .+? CREATEDB", refused.stderr)[0])
        assert shop.run("backup", "--verify", folder.name, env=env).stderr == ""
    finally:
        shop.sql("dwh", f'DROP OWNED BY "{user}"')
        administer("dwh", f'DROP ROLE "{user}"')


@needs_servers
def test_grants_are_taken_from_grants_alone(shop: Shop) -> None:
    """A line of a function may look like one; a role's name may have a space, and a grant an option behind it."""
    gone, later = f"gone role {os.getpid()}", f"later_{os.getpid()}"
    for role in (gone, later):
        administer("dwh", f'CREATE ROLE "{role}"')
    try:
        shop.sql("dwh", f'GRANT SELECT ON fact_sales TO "{gone}" WITH GRANT OPTION')
        shop.sql("dwh", f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {later}")
        shop.sql("dwh", "CREATE FUNCTION open_all() RETURNS void LANGUAGE plpgsql AS $$ BEGIN\nGRANT SELECT ON nothing TO nobody;\nEND $$")
        folder = make_backup(shop)
        wipe(shop, "dwh")
        administer("dwh", f'DROP ROLE "{gone}"')
        result = shop.run("restore", folder.name, "--only", "dwh")
        assert_one_line(result, 0, f"dwh: no rights granted to {gone}: the role does not exist here")
        shop.sql("dwh", "CREATE TABLE made_later (id int)")
        assert shop.sql("dwh", f"SELECT has_table_privilege('{later}', 'made_later', 'SELECT')") == [(True,)]
    finally:
        shop.sql("dwh", f"DROP OWNED BY {later}")
        administer("dwh", f"DROP ROLE {later}")


@needs_servers
def test_subscription_does_not_hold_a_throwaway_database(shop: Shop) -> None:
    subscribe = "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=9' PUBLICATION p WITH (connect = false, slot_name = NONE)"
    shop.sql("dwh", subscribe)
    try:
        others = list_databases(shop)
        folder = make_backup(shop)
        verified = shop.run("backup", "--verify", folder.name)
        assert (verified.returncode, verified.stderr, list_databases(shop)) == (0, "", others)
    finally:
        shop.sql("dwh", "DROP SUBSCRIPTION feed")


@needs_servers
def test_extension_that_a_throwaway_database_lacks_is_named(shop: Shop) -> None:
    with warehouse_owner(shop) as env:
        shop.sql("dwh", "CREATE EXTENSION file_fdw")
        shop.sql("dwh", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
        folder = make_backup(shop)
        result = shop.run("backup", "--verify", folder.name, env=env)
        absent = "its throwaway database is without file_fdw, which 'owner_"
        assert_one_line(result, 1, absent, "may not create there. Name a superuser in DWH_URL for this command.")
        assert shop.run("backup", "--verify", folder.name).stderr == ""


# --- Any server ---


def test_backup_has_no_batches_and_a_run_without_them_is_not_resumed(shop: Shop) -> None:
    """They were nearly all of the control database's dump, and only a run that has not ended needs them."""
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_batch")[0][0]
    folder = make_backup(shop, "--verify")
    counts = json.loads((folder / "manifest.json").read_text())["databases"]["default"]["tables"]
    assert counts["orchestration_batch"]["rows"] == 0 and counts["orchestration_run"]["rows"] == 1
    wipe(shop, "default", "dwh")
    assert shop.run("restore", folder.name, "--only", "default", "--only", "dwh").returncode == 0
    assert shop.sql("default", "SELECT COUNT(*) FROM orchestration_batch") == [(0,)]
    # A run that the backup has as failed before its load.
    shop.sql("default", "UPDATE orchestration_run SET state = 'failed', uuid = '00000000000000000000000000000001' WHERE id = 1")
    shop.sql("dwh", "DELETE FROM etl_load")
    assert_one_line(
        shop.run("run_etl", "--resume", "1"), 2, "The batches of run 1 have been deleted, or a backup without them was restored."
    )


@needs_files
def test_file_with_odd_names_and_columns_is_restored(shop: Shop) -> None:
    script = """
        CREATE TABLE "odd ""name"" %s" (
            "a`b" INTEGER PRIMARY KEY, "sum" DECIMAL(9, 2), "g" AS ("sum" * 2) STORED, "point" POINT, "bit" BIT
        );
        INSERT INTO "odd ""name"" %s" ("sum") VALUES (2.5), (NULL);
        CREATE TABLE "order" (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID;
        INSERT INTO "order" VALUES ('x', X'00ff');
        CREATE VIRTUAL TABLE words USING fts5(body);
        INSERT INTO words VALUES ('some words');
        CREATE VIEW "broken view" AS SELECT * FROM nowhere;
        CREATE TRIGGER "a trigger" AFTER INSERT ON "order" BEGIN DELETE FROM words; END;
    """
    with closing(shop.connect("orders_db")) as connection:
        connection.executescript(script)
        before = list(connection.iterdump())
    folder = make_backup(shop, "--verify")
    wipe(shop, "orders_db")
    assert shop.run("restore", folder.name, "--only", "orders_db").returncode == 0
    with closing(shop.connect("orders_db")) as connection:
        assert list(connection.iterdump()) == before


def test_earlier_dump_is_restored_without_its_definers() -> None:
    dump = [
        b"-- Dump\n",
        b"INSERT INTO `t` VALUES (1,'/*!50013 DEFINER=`a`@`b` */'),\n",
        b"(2,'x');\n",
        b"INSERT INTO `t` VALUES (3,'y');\n",
        b"/*!50003 CREATE*/ /*!50017 DEFINER=`ro``ot`@`%`*/ /*!50003 TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1 */;;\n",
        b"/*!50013 DEFINER=`root`@`localhost` SQL SECURITY DEFINER */\n",
    ]
    expected = [
        *dump[:4],
        b"/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1 */;;\n",
        b"/*!50013 SQL SECURITY DEFINER */\n",
    ]
    section = [b"-- TechMarket: views, triggers, procedures, functions and events\n", b"CREATE\n"]
    assert list(filter_lines(iter([*dump, *section]), all_rows=True)) == expected
    assert list(filter_lines(iter([*dump, *section]), all_rows=False)) == [*expected[:3], *expected[4:]]
