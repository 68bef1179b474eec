"""`migrate_all` is advised where it helps and nowhere else, and it creates nothing in a shop's own database."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.conftest import Cli


def sql(path: Path, *statements: str) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_each_step_of_a_new_installation_helps(run_cli: Cli) -> None:
    for command in ("run_etl", "generate_data", "kpis"):
        assert run_cli(command).stderr.endswith("Run `manage.py migrate_all`.\n"), command
    assert run_cli("migrate_all").returncode == 0
    for command in ("generate_data", "run_etl", "kpis"):
        assert run_cli(command).returncode == 0, command


def test_a_shop_of_somebody_else_is_left_unchanged(run_cli: Cli, tmp_path: Path) -> None:
    """Its tables are the shop's: what lacks is for the shop's team, and migrate_all does not touch it."""
    tables = sql(tmp_path / "orders.sqlite3", "CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    migrated = run_cli("migrate_all")
    assert migrated.returncode == 0 and "left unchanged: its tables are not TechMarket's" in migrated.stdout
    assert sql(tmp_path / "orders.sqlite3") == tables
    result = run_cli("run_etl")
    assert result.returncode == 4 and "migrate_all" not in result.stderr and result.stderr.count("\n") == 1
    assert "Restore it in the source database" in result.stderr


def test_a_table_dropped_after_its_migration_is_restored_not_migrated(run_cli: Cli, tmp_path: Path) -> None:
    for command in ("migrate_all", "generate_data", "run_etl"):
        assert run_cli(command).returncode == 0
    source, warehouse = tmp_path / "catalog.sqlite3", tmp_path / "dwh.sqlite3"
    sql(source, "ALTER TABLE products RENAME TO gone")
    result = run_cli("run_etl", "--mode", "full")
    assert "catalog_db" in result.stderr and result.stderr.endswith("Restore it in the source database, or correct CATALOG_DB_URL.\n")
    sql(source, "ALTER TABLE gone RENAME TO products")
    assert run_cli("run_etl", "--mode", "full").returncode == 0
    sql(warehouse, "ALTER TABLE dim_region RENAME TO gone")
    result = run_cli("run_etl")
    assert result.returncode == 4 and result.stderr.endswith("Restore it there, or restore a backup into an empty database.\n")
    sql(warehouse, "ALTER TABLE gone RENAME TO dim_region")
    assert run_cli("run_etl").returncode == 0
