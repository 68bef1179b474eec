"""Runs in process, and the rows of the warehouse read back as the oracle spells them: by natural keys."""

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
ZERO = {"inserted": 0, "updated": 0, "deleted": 0, "derived": 0}
DIMENSIONS: dict[str, tuple[Any, str]] = {
    "dim_region": (DimRegion, "region"),
    "dim_category": (DimCategory, "category"),
    "dim_product": (DimProduct, "product"),
    "dim_customer": (DimCustomer, "customer"),
    "dim_employee": (DimEmployee, "employee"),
}


def run(mode: str = "full", window: Window | None = None, dry_run: bool = False) -> Run:
    asked = start_run(Mode(mode), Trigger.CLI, "test", window, dry_run=dry_run)
    execute_run(asked)
    asked.refresh_from_db()
    assert asked.state == State.SUCCEEDED
    return asked


def written(done: Run) -> dict[str, dict[str, int]]:
    """What a run did to each table of the warehouse, where it did anything."""
    tables = {table: {name: counts[name] for name in ZERO} for table, counts in document(done)["tables"].items()}
    return {table: counts for table, counts in tables.items() if counts != ZERO}


def natural_keys() -> dict[str, dict[int, Any]]:
    """Surrogate key -> natural key, by what it is the key of."""
    keys = {}
    for model, name in DIMENSIONS.values():
        keys[name] = dict(model.objects.filter(pk__gt=0).values_list("pk", f"{name}_id")) if name != "category" else {}
    keys["category"] = dict(DimCategory.objects.filter(pk__gt=0).values_list("pk", "category_id"))
    return {name: mapping | SPECIAL for name, mapping in keys.items()}


def rows_of(table: str) -> list[Row]:
    """Every row by column, with the values that Django's fields give."""
    model = FactSales if table == "fact_sales" else DIMENSIONS[table][0]
    names = {field.attname: field.column for field in model._meta.concrete_fields}
    return [{names[name]: value for name, value in row.items()} for row in model.objects.order_by("pk").values(*names)]


def by_natural_key(table: str, own: str, references: Mapping[str, str]) -> dict[int, Row]:
    """`references`: key column -> what it refers to. Surrogate key and run id are left out."""
    keys = natural_keys()
    found = {}
    for row in rows_of(table):
        natural = row.pop(own)
        row.pop("run_id")
        for column, name in references.items():
            row["parent" if column.startswith("parent") else name] = keys[name][row.pop(column)]
        found[natural] = row
    return found


def dimension(table: str) -> dict[int, Row]:
    _, name = DIMENSIONS[table]
    others = {"dim_category": {"parent_category_key": "category"}, "dim_product": {"category_key": "category"}, "dim_region": {}}
    found = by_natural_key(table, f"{name}_id", others.get(table, {"region_key": "region"}))
    found.pop(None)  # type: ignore[call-overload]  the special members
    for row in found.values():
        row.pop(f"{name}_key", None)
    return found


def facts() -> dict[int, Row]:
    dates = dict(DimDate.objects.filter(pk__gt=0).values_list("pk", "date"))
    found = by_natural_key("fact_sales", "order_item_id", {f"{name}_key": name for name in (*[name for _, name in DIMENSIONS.values()],)})
    for row in found.values():
        row["date"] = dates[row.pop("date_key")]
    return found


def surrogate_keys() -> dict[str, dict[int, int]]:
    return {table: {row[f"{name}_id"]: row[f"{name}_key"] for row in rows_of(table)} for table, (_, name) in DIMENSIONS.items()}


def compare(expected: oracle.Star) -> None:
    """Every row of the five dimensions and of the fact, value by value."""
    for table in DIMENSIONS:
        assert oracle.differences(expected.dimensions[table], dimension(table)) == [], table
    assert oracle.differences(expected.facts, facts()) == [], "fact_sales"


def expected_rows() -> oracle.Star:
    return oracle.star(oracle.read_shop(), datetime.now(UTC))


def compare_ledger(expected: oracle.Star, done: Run) -> None:
    """Of a full run: the four counts of every table that was read, and each rejected row."""
    said = document(done)
    tables = {**said["tables"], **said["sources"]}
    for table, counts in expected.counts.items():
        row = tables[table]
        loaded = row["loaded"] if table in said["sources"] else row["inserted"] + row["updated"] + row["unchanged"]
        assert (row["read"], loaded, row["filtered"], row["rejected"]) == (
            counts.read,
            counts.loaded,
            counts.filtered,
            counts.rejected,
        ), table
    assert sorted(Reject.objects.filter(run=done).values_list("table", "row_id")) == expected.rejects


def assert_balanced(done: Run) -> None:
    """read = loaded + filtered + rejected, and loaded = inserted + updated + unchanged, of every table of the run."""
    said = document(done)
    assert set(TARGETS) == set(said["tables"])
    for table, row in said["tables"].items():
        assert row["read"] == row["inserted"] + row["updated"] + row["unchanged"] + row["filtered"] + row["rejected"], table
    for table, row in said["sources"].items():
        assert row["read"] == row["loaded"] + row["filtered"] + row["rejected"], table


def whole_warehouse() -> dict[str, list[Any]]:
    """Every column of every row of the warehouse, as the driver gives it."""
    rows = {}
    with connections["dwh"].cursor() as cursor:
        for table in ("dim_date", *DIMENSIONS, "fact_sales", "etl_load"):
            cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
            rows[table] = cursor.fetchall()
    return rows
