"""Clean batches of a dimension into its table: keep keys, write changes, flag vanished rows, create special and inferred members."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from django.apps import apps

from apps.etl.counts import Written
from apps.etl.declarations import Target
from apps.etl.load.copying import analyze, copy, create_stage, fit_integers
from apps.etl.load.keys import DimensionKeys, date_keys, release_published
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


@dataclass
class Inferred:
    """What a run has to add for its rows: members by dimension, of which only the natural key is known, and years of the calendar."""

    members: dict[str, set[int]] = field(default_factory=dict)
    years: set[int] = field(default_factory=set)

    def add(self, other: "Inferred") -> None:
        for table, naturals in other.members.items():
            self.members.setdefault(table, set()).update(naturals)
        self.years |= other.years


class Dimensions:
    """The dimensions during one load: first staged, in a temporary table each, then written in the publishing transaction."""

    def __init__(self, cursor: Any, run_id: int, keys: DimensionKeys):
        self.cursor = cursor
        self.run_id = run_id
        self.keys = keys
        self.written = {target.table: Written() for target in DIMENSIONS}
        self.staged: dict[str, list[Bounds]] = {}
        self.inferred = Inferred()
        self.changed_products: list[int] = []  # keys of products that moved to another category or whose cost became known

    def stage(self, target: Target, clean: pa.Table, bounds: Bounds) -> None:
        """Stage the rows with natural keys within `bounds`."""
        if target is not DIM_DATE:
            self.keys.expect(target.table, clean[target.natural].to_numpy().astype(np.int64))
        rows = self.with_keys(target, clean)
        if target.table not in self.staged:
            create_stage(self.cursor, stage_of(target), target.table, rows.schema.names)
        copy(self.cursor, stage_of(target), fit_integers(rows, MODELS[target.table]))
        self.staged.setdefault(target.table, []).append(bounds)
        self.written[target.table].staged += rows.num_rows

    def with_keys(self, target: Target, clean: pa.Table) -> pa.Table:
        """Return the clean batch with surrogate keys in place of natural ones."""
        naturals = clean[target.natural]
        surrogate = date_keys(naturals) if target is DIM_DATE else self.keys.of(target.table).of(naturals.to_numpy().astype(np.int64))
        references, inferred = self.keys.look_up(target, clean)
        self.inferred.add(Inferred(inferred))
        columns = {target.key: pa.array(surrogate), target.natural: naturals} | {name: clean[name] for name in target.attributes}
        return pa.table(columns | references)

    def finish_staging(self) -> None:
        for table in self.staged:
            analyze(self.cursor, stage_of(TARGETS[table]), TARGETS[table].key)
        if "dim_product" in self.staged:
            self.changed_products = self.find_changed_products()

    def write(self, rejected: Mapping[str, Iterable[int]]) -> None:
        """Write what is staged. Rows of `rejected` natural keys, by source table, stay as they were last loaded."""
        for target in DIMENSIONS:
            self.make_special_members(target)
            if target.table in self.staged:
                self.write_staged(target, rejected.get(target.source.table, ()) if target.sources else ())
        self.extend_calendar()
        for table, naturals in self.inferred.members.items():
            self.infer_members(TARGETS[table], sorted(naturals))
        for target in DIMENSIONS:
            if target is not DIM_DATE:
                release_published(self.cursor, target)

    def write_staged(self, target: Target, rejected: Iterable[int]) -> None:
        stage, columns, written = stage_of(target), [target.natural, *target.columns], self.written[target.table]
        extra = CURRENT | {"run_id": str(self.run_id)}
        written.updated += update_changed(self.cursor, target.table, stage, target.key, columns, extra)
        written.inserted += insert_new(self.cursor, target.table, stage, target.key, columns, extra)
        if target is not DIM_DATE:
            for bounds in self.staged[target.table]:
                written.deleted += self.flag_vanished(target, stage, bounds, rejected)

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

    def infer_members(self, target: Target, naturals: list[int]) -> None:
        """Insert members of which only the natural key is known; a later run fills them in."""
        keys = self.keys.of(target.table).of(np.array(naturals, dtype=np.int64)).tolist()
        for natural, key in zip(naturals, keys, strict=True):
            named = {target.key: key, target.natural: natural, "is_inferred": True}
            self.insert_member(target, MODELS[target.table].build_member(UNKNOWN) | named)

    def extend_calendar(self) -> None:
        """Add the years that facts need and the calendar lacks."""
        missing = find_missing_years(self.cursor, self.inferred.years)
        if not missing:
            return
        rows = self.with_keys(DIM_DATE, calendar.days(sorted(missing)))
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

    def find_changed_products(self) -> list[int]:
        self.cursor.execute(
            "SELECT t.product_key FROM dim_product AS t JOIN stage_dim_product AS s ON s.product_key = t.product_key "
            "WHERE t.category_key <> s.category_key OR (t.cost IS NULL AND s.cost IS NOT NULL)"
        )
        return [row[0] for row in self.cursor.fetchall()]


def find_missing_years(cursor: Any, years: Iterable[int]) -> set[int]:
    """Return the years that the calendar lacks."""
    cursor.execute("SELECT DISTINCT year FROM dim_date WHERE date_key > 0")
    return set(years) - {row[0] for row in cursor.fetchall()}


def stage_of(target: Target) -> str:
    return f"stage_{target.table}"
