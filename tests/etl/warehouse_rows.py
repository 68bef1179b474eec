"""Run the ETL in this process, and read the warehouse in the form of the oracle's rows, by natural keys."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.db import connections

from apps.etl.tables import TARGETS
from apps.orchestration.models import Mode, Reject, Run, State, Trigger
from apps.orchestration.requests import start_run
from apps.orchestration.results import document
from apps.orchestration.window import Window
from apps.orchestration.worker.local import execute_run
from apps.warehouse.models import DimCategory, DimCustomer, DimDate, DimEmployee, DimProduct, DimRegion, FactSales
from tests import oracle
from tests.oracle import NOT_APPLICABLE, UNKNOWN, Row

SPECIAL = {-1: UNKNOWN, -2: NOT_APPLICABLE}
LONG_AGO = "2026-01-15 12:00:00.000000"
ZERO = {"inserted": 0, "updated": 0, "deleted": 0, "derived": 0}
DIMENSIONS: dict[str, tuple[Any, str]] = {
    "dim_region": (DimRegion, "region"),
    "dim_category": (DimCategory, "category"),
    "dim_product": (DimProduct, "product"),
    "dim_customer": (DimCustomer, "customer"),
    "dim_employee": (DimEmployee, "employee"),
}


def run_etl(mode: str = "full", window: Window | None = None, dry_run: bool = False, reread: bool = False) -> Run:
    run = start_run(Mode(mode), Trigger.CLI, "test", window, dry_run=dry_run, reread=reread)
    execute_run(run)
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED
    return run


def execute(alias: str, statement: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


def age_source_rows() -> None:
    """Set every `updated_at` to January 2026, far before any window. SQLite's trigger sets one that is left as it is."""
    for alias, tables in oracle.TABLES.items():
        for table in tables:
            execute(alias, f"UPDATE {table} SET updated_at = '{LONG_AGO}' WHERE updated_at <> '{LONG_AGO}'")


def count_written_rows(run: Run) -> dict[str, dict[str, int]]:
    """Return the counts of written rows by warehouse table, without tables in which the run wrote nothing."""
    tables = {table: {name: counts[name] for name in ZERO} for table, counts in document(run)["tables"].items()}
    return {table: counts for table, counts in tables.items() if counts != ZERO}


def read_natural_keys() -> dict[str, dict[int, Any]]:
    """Return the mapping from surrogate to natural keys, by the name of the dimension."""
    keys = {}
    for model, name in DIMENSIONS.values():
        keys[name] = dict(model.objects.filter(pk__gt=0).values_list("pk", f"{name}_id")) if name != "category" else {}
    keys["category"] = dict(DimCategory.objects.filter(pk__gt=0).values_list("pk", "category_id"))
    return {name: mapping | SPECIAL for name, mapping in keys.items()}


def read_rows(table: str) -> list[Row]:
    """Return every row by column, with the values of Django's fields."""
    model = FactSales if table == "fact_sales" else DIMENSIONS[table][0]
    names = {field.attname: field.column for field in model._meta.concrete_fields}
    return [{names[name]: value for name, value in row.items()} for row in model.objects.order_by("pk").values(*names)]


def read_by_natural_key(table: str, own: str, references: Mapping[str, str]) -> dict[int, Row]:
    """Return rows by natural key, without run ids. `references` maps a key column to the name of its dimension."""
    keys = read_natural_keys()
    found = {}
    for row in read_rows(table):
        natural = row.pop(own)
        row.pop("run_id")
        for column, name in references.items():
            row["parent" if column.startswith("parent") else name] = keys[name][row.pop(column)]
        found[natural] = row
    return found


def read_dimension(table: str) -> dict[int, Row]:
    _, name = DIMENSIONS[table]
    others = {"dim_category": {"parent_category_key": "category"}, "dim_product": {"category_key": "category"}, "dim_region": {}}
    found = read_by_natural_key(table, f"{name}_id", others.get(table, {"region_key": "region"}))
    found.pop(None)  # type: ignore[call-overload]  the special members
    for row in found.values():
        row.pop(f"{name}_key", None)
    return found


def read_facts() -> dict[int, Row]:
    dates = dict(DimDate.objects.filter(pk__gt=0).values_list("pk", "date"))
    found = read_by_natural_key(
        "fact_sales", "order_item_id", {f"{name}_key": name for name in (*[name for _, name in DIMENSIONS.values()],)}
    )
    for row in found.values():
        row["date"] = dates[row.pop("date_key")]
    return found


def read_surrogate_keys() -> dict[str, dict[int, int]]:
    return {table: {row[f"{name}_id"]: row[f"{name}_key"] for row in read_rows(table)} for table, (_, name) in DIMENSIONS.items()}


def assert_warehouse_equals(expected: oracle.Warehouse) -> None:
    """Compare every row of the five dimensions and of the fact, value by value."""
    for table in DIMENSIONS:
        assert oracle.find_differences(expected.dimensions[table], read_dimension(table)) == [], table
    assert oracle.find_differences(expected.facts, read_facts()) == [], "fact_sales"


def compute_expected() -> oracle.Warehouse:
    return oracle.compute_warehouse(oracle.read_shop(), datetime.now(UTC))


def assert_ledger_equals(expected: oracle.Warehouse, run: Run) -> None:
    """Compare the four counts of every table that a full run has read, and each rejected row."""
    result = document(run)
    tables = {**result["tables"], **result["sources"]}
    for table, counts in expected.counts.items():
        row = tables[table]
        loaded = row["loaded"] if table in result["sources"] else row["inserted"] + row["updated"] + row["unchanged"]
        assert (row["read"], loaded, row["filtered"], row["rejected"]) == (
            counts.read,
            counts.loaded,
            counts.filtered,
            counts.rejected,
        ), table
    assert sorted(Reject.objects.filter(run=run).values_list("table", "row_id")) == expected.rejects


def assert_balanced(run: Run) -> None:
    """Check read = loaded + filtered + rejected, and loaded = inserted + updated + unchanged, for every table of the run."""
    result = document(run)
    assert set(TARGETS) == set(result["tables"])
    for table, row in result["tables"].items():
        assert row["read"] == row["inserted"] + row["updated"] + row["unchanged"] + row["filtered"] + row["rejected"], table
    for table, row in result["sources"].items():
        assert row["read"] == row["loaded"] + row["filtered"] + row["rejected"], table


def read_warehouse() -> dict[str, list[Any]]:
    """Return every column of every row of the warehouse, as the driver returns it."""
    rows = {}
    with connections["dwh"].cursor() as cursor:
        for table in ("dim_date", *DIMENSIONS, "fact_sales", "etl_load"):
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            rows[table] = cursor.fetchall()
    return rows
