"""Clean batches of a fact into its table: a new table where the fact is empty, else a merge of what differs."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from django.apps import apps
from django.db import models

from apps.etl.counts import Written
from apps.etl.declarations import Fact
from apps.etl.load.copying import analyze, copy, create_stage, fit_integers
from apps.etl.load.dimensions import Dimensions
from apps.etl.load.fact_build import FactBuild, may_build
from apps.etl.load.fact_merge import FactMerge
from apps.etl.load.prepared import FactWriter, PreparedSlice
from apps.etl.load.products import Products, update_product_columns
from apps.etl.metadata import get_metadata
from apps.etl.slices import Bounds
from apps.etl.tables import DIM_DATE, FACT_TABLES, ORDER_FINGERPRINTS, TOUCHED_ORDERS

MODELS: dict[str, type[models.Model]] = {
    model._meta.db_table: model for model in apps.get_app_config("dwh").get_models() if model._meta.db_table in FACT_TABLES
}

TOUCHED_STAGE = f"stage_{TOUCHED_ORDERS}"


class FactLoader:
    """Turns the clean batches of one fact into its rows and writes them in the way that fits."""

    def __init__(
        self,
        cursor: Any,
        fact: Fact,
        run_id: int,
        dimensions: Dimensions,
        scope: str,
        rejected: Iterable[int],
        standing: Iterable[int],
    ):
        self.cursor = cursor
        self.fact = fact
        self.run_id = run_id
        self.dimensions = dimensions
        self.products = Products(cursor) if fact.has_product_columns else None
        self.writer: FactWriter = (
            FactBuild(cursor, fact, run_id) if may_build(cursor, fact) else FactMerge(cursor, fact, run_id, scope, rejected, standing)
        )

    def prepare(self, clean: pa.Table) -> PreparedSlice:
        """Make a slice ready without the database, so that another slice may be written at the same time."""
        if not clean.num_rows:
            return PreparedSlice()
        dates = [clean[reference.natural] for reference in self.fact.references if reference.dimension == DIM_DATE.table]
        years = set().union(*(self.dimensions.add_missing_years(column) for column in dates))
        references, inferred = self.dimensions.look_up(self.fact, clean)
        attributes = {name: clean[name] for name in (self.fact.key, *self.fact.attributes)}
        columns = attributes | references | self.product_columns(clean, references, inferred)
        blocks = self.writer.pack(fit_integers(pa.table(columns), MODELS[self.fact.table]))
        kopiykas = {each.column: int(get_metadata(clean, each.column)) for each in self.fact.reconciliations}
        return PreparedSlice(blocks, inferred, years, kopiykas)

    def product_columns(self, clean: pa.Table, references: dict[str, pa.Array], inferred: dict[str, Any]) -> dict[str, pa.Array]:
        if not self.products:
            return {}
        self.products.add_inferred(self.dimensions.keys["dim_product"].of(inferred["dim_product"]))
        return self.products.columns(references["product_key"], clean["quantity"].combine_chunks(), clean["net_amount"].combine_chunks())

    def add(self, prepared: PreparedSlice, bounds: Bounds) -> None:
        self.dimensions.extend_calendar(prepared.years)
        self.dimensions.insert_inferred(prepared.inferred)
        self.writer.add(prepared, bounds)

    def finish(self) -> Written:
        written = self.writer.finish()
        if self.fact.has_product_columns:
            written.derived = update_product_columns(self.cursor, self.fact, self.dimensions.changed_products, self.run_id)
        return written


def stage_touched_orders(cursor: Any, batches: Iterable[pa.Table]) -> None:
    create_stage(cursor, TOUCHED_STAGE, ORDER_FINGERPRINTS, ["order_id"])
    for batch in batches:
        copy(cursor, TOUCHED_STAGE, batch)
    analyze(cursor, TOUCHED_STAGE)
