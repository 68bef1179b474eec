"""Clean batches of a dimension into its table: keep keys, write changes, flag vanished rows, create special and inferred members."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from django.apps import apps

from apps.etl.counts import Written
from apps.etl.declarations import Target
from apps.etl.load.copying import analyze, copy, create_stage, fit_integers
from apps.etl.load.keys import Keys
from apps.etl.load.merging import insert_new, update_changed
from apps.etl.slices import Bounds, within
from apps.etl.tables import DIM_DATE, DIMENSIONS, TARGETS
from apps.etl.transform import calendar
from apps.warehouse.dimensions import NOT_APPLICABLE, UNKNOWN, Dimension

MODELS: dict[str, type[Dimension]] = {
    model._meta.db_table: model for model in apps.get_app_config("dwh").get_models() if issubclass(model, Dimension)
}
CURRENT = {"is_deleted": "FALSE", "is_inferred": "FALSE"}
# EXCEPT and not NOT EXISTS, for which SQLite searches the stage for each row.
FLAG_VANISHED = """
UPDATE {table} SET is_deleted = TRUE, run_id = {run} WHERE {key} IN (
    SELECT t.{key} FROM {table} AS t WHERE {where} AND NOT t.is_deleted AND NOT t.is_inferred EXCEPT SELECT {key} FROM {stage}
)
"""


class Dimensions:
    """The dimensions during one load: their keys in memory, and the counts of what was written to each."""

    def __init__(self, cursor: Any, run_id: int):
        self.cursor = cursor
        self.run_id = run_id
        self.written = {target.table: Written() for target in DIMENSIONS}
        self.keys: dict[str, Keys] = {}
        self.changed_products: list[int] = []  # keys of products that moved to another category or whose cost became known
        for target in DIMENSIONS:
            self.make_special_members(target)
        cursor.execute("SELECT DISTINCT year FROM dim_date WHERE date_key > 0")
        self.years = {row[0] for row in cursor.fetchall()}

    def make_special_members(self, target: Target) -> None:
        self.cursor.execute(f"SELECT {target.key} FROM {target.table} WHERE {target.key} < 0")
        present = {row[0] for row in self.cursor.fetchall()}
        for special in (UNKNOWN, NOT_APPLICABLE):
            if special not in present:
                self.insert_member(target, MODELS[target.table].build_member(special) | {target.key: special})

    def insert_member(self, target: Target, row: dict[str, Any]) -> None:
        row = row | {"run_id": self.run_id}
        marks = ", ".join(["%s"] * len(row))
        self.cursor.execute(f"INSERT INTO {target.table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        self.written[target.table].derived += 1

    def read_keys(self, tables: Iterable[str]) -> None:
        """Read the keys that are not in memory yet. Most runs need few dimensions."""
        for target in (TARGETS[table] for table in tables if table not in self.keys and table != DIM_DATE.table):
            self.cursor.execute(
                f"SELECT {target.natural}, {target.key} FROM {target.table} WHERE {target.key} > 0 ORDER BY {target.natural}"
            )
            self.keys[target.table] = Keys(self.cursor)

    def load(self, target: Target, clean: pa.Table, bounds: Bounds, rejected: Iterable[int]) -> None:
        """Load the rows with natural keys within `bounds`. Rows of `rejected` natural keys stay as they were last loaded."""
        self.read_keys([target.table, *(reference.dimension for reference in target.references)])
        staged = self.with_keys(target, clean)
        stage = f"stage_{target.table}"
        create_stage(self.cursor, stage, target.table, staged.schema.names)
        copy(self.cursor, stage, fit_integers(staged, MODELS[target.table]))
        analyze(self.cursor, stage, target.key)
        if target.table == "dim_product":
            self.changed_products = self.find_changed_products(stage)
        columns = [target.natural, *target.columns]
        written = self.written[target.table]
        written.staged += staged.num_rows
        extra = CURRENT | {"run_id": str(self.run_id)}
        written.updated += update_changed(self.cursor, target.table, stage, target.key, columns, extra)
        written.inserted += insert_new(self.cursor, target.table, stage, target.key, columns, extra)
        if target is not DIM_DATE:
            written.deleted += self.flag_vanished(target, stage, bounds, rejected)

    def with_keys(self, target: Target, clean: pa.Table) -> pa.Table:
        """Return the clean batch with surrogate keys in place of natural ones."""
        if target is DIM_DATE:
            self.years.update(clean["year"].unique().to_pylist())
            surrogate = pa.array(date_keys(clean["date"]))
        else:
            keys = self.keys[target.table]
            naturals = clean[target.natural].to_numpy().astype(np.int64)
            keys.add(naturals)
            surrogate = pa.array(keys.of(naturals))
        references, inferred = self.look_up(target, clean)
        self.insert_inferred(inferred)
        columns = {target.key: surrogate, target.natural: clean[target.natural]} | {name: clean[name] for name in target.attributes}
        return pa.table(columns | references)

    def look_up(self, target: Target, clean: pa.Table) -> tuple[dict[str, pa.Array], dict[str, Any]]:
        """Return the surrogate keys that `target` refers to by column, and by dimension the natural keys of members to infer."""
        found: dict[str, pa.Array] = {}
        inferred: dict[str, Any] = {}
        for reference in target.references:
            if reference.dimension == DIM_DATE.table:
                found[reference.key] = pa.array(date_keys(clean[reference.natural]))
                continue
            column = clean[reference.natural].cast(pa.int64())
            found[reference.key], inferred[reference.dimension] = self.keys[reference.dimension].lookup(column, reference.empty)
        return found, inferred

    def insert_inferred(self, inferred: dict[str, Any]) -> None:
        """Insert members of which only the natural key is known; a later run fills them in."""
        for table, naturals in inferred.items():
            target = TARGETS[table]
            for natural, key in zip(naturals.tolist(), self.keys[table].of(naturals).tolist(), strict=True):
                named = {target.key: key, target.natural: natural, "is_inferred": True}
                self.insert_member(target, MODELS[table].build_member(UNKNOWN) | named)

    def add_missing_years(self, dates: pa.ChunkedArray) -> set[int]:
        """Return the years of `dates` that the calendar lacks, each only once: the caller writes them with `extend_calendar`."""
        missing = set(np.unique(dates.to_numpy().astype("datetime64[Y]").astype(int) + 1970).tolist()) - self.years
        self.years |= missing
        return missing

    def extend_calendar(self, years: set[int]) -> None:
        if not years:
            return
        rows = self.with_keys(DIM_DATE, calendar.days(sorted(years)))
        for name, value in (("is_deleted", False), ("is_inferred", False), ("run_id", self.run_id)):
            rows = rows.append_column(name, pa.array([value] * rows.num_rows))
        copy(self.cursor, DIM_DATE.table, fit_integers(rows, MODELS[DIM_DATE.table]))
        self.written[DIM_DATE.table].derived += rows.num_rows

    def flag_vanished(self, target: Target, stage: str, bounds: Bounds, rejected: Iterable[int]) -> int:
        naturals = ", ".join(str(int(natural)) for natural in rejected)
        not_rejected = [f"t.{target.natural} NOT IN ({naturals})"] if naturals else []
        where = " AND ".join([f"t.{target.key} > 0", *within(f"t.{target.natural}", bounds), *not_rejected])
        self.cursor.execute(FLAG_VANISHED.format(table=target.table, stage=stage, key=target.key, where=where, run=self.run_id))
        return int(self.cursor.rowcount)

    def find_changed_products(self, stage: str) -> list[int]:
        self.cursor.execute(
            f"SELECT t.product_key FROM dim_product AS t JOIN {stage} AS s ON s.product_key = t.product_key "
            "WHERE t.category_key <> s.category_key OR (t.cost IS NULL AND s.cost IS NOT NULL)"
        )
        return [row[0] for row in self.cursor.fetchall()]


def date_keys(dates: pa.ChunkedArray) -> Any:
    """Return each date as YYYYMMDD."""
    days = dates.to_numpy().astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    year, month = months.astype("datetime64[Y]").astype(int) + 1970, months.astype(int) % 12 + 1
    return (year * 10_000 + month * 100 + (days - months).astype(int) + 1).astype(np.int64)
