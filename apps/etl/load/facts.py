"""Clean batches of a fact as rows of its table: surrogate keys, product columns, integers of the columns' widths."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from django.apps import apps
from django.db import models

from apps.etl.declarations import Fact
from apps.etl.load.copying import fit_integers, pack, split
from apps.etl.load.dimensions import Inferred
from apps.etl.load.keys import DimensionKeys
from apps.etl.load.prefetch import prefetch
from apps.etl.load.prepared import PreparedSlice, Slices
from apps.etl.load.products import Products
from apps.etl.metadata import get_metadata
from apps.etl.slices import Bounds
from apps.etl.tables import DIM_DATE, DIM_PRODUCT, FACT_TABLES

MODELS: dict[str, type[models.Model]] = {
    model._meta.db_table: model for model in apps.get_app_config("dwh").get_models() if model._meta.db_table in FACT_TABLES
}
Complete = Callable[[pa.Table], pa.Table]
# The run's clean batches of a table, or TOUCHED_ORDERS, with the slices' bounds.
Batches = Callable[[str], Iterable[tuple[Bounds, pa.Table]]]


def unchanged(rows: pa.Table) -> pa.Table:
    return rows


class FactRows:
    """Converts the clean batches of one fact."""

    def __init__(self, cursor: Any, fact: Fact, keys: DimensionKeys, batches: Batches, ahead: bool):
        """Read what is looked up, of the warehouse and of the dimensions that the run is going to publish.

        `ahead`: one slice is made, in a thread with a session of its own, while the one before is written.
        """
        self.cursor = cursor
        self.fact = fact
        self.keys = keys
        self.ahead = ahead
        self.keys.read(reference.dimension for reference in fact.references)
        self.products: Products | None = None
        if fact.has_product_columns:
            self.keys.read(reference.dimension for reference in DIM_PRODUCT.references)
            self.products = Products(cursor, keys, (batch for _, batch in batches(DIM_PRODUCT.table)))

    def convert_all(self, slices: Iterable[tuple[Bounds, pa.Table]], complete: Complete = unchanged) -> Slices:
        """Yield the slices ready for COPY. `complete` returns the final rows."""
        converted = ((bounds, self.convert(clean, complete)) for bounds, clean in slices)
        return prefetch(converted) if self.ahead else converted

    def convert(self, clean: pa.Table, complete: Complete = unchanged) -> PreparedSlice:
        """Convert a slice block by block: what is made in between is in memory for one of them at a time."""
        if not clean.num_rows:
            return PreparedSlice()
        kopiykas = {each.column: int(get_metadata(clean, each.column)) for each in self.fact.reconciliations}
        prepared = PreparedSlice(clean.num_rows, kopiykas)
        for block in split(clean):
            self.convert_block(pa.Table.from_batches([block]), complete, prepared)
        return prepared

    def convert_block(self, clean: pa.Table, complete: Complete, prepared: PreparedSlice) -> None:
        references, inferred = self.keys.look_up(self.fact, clean)
        attributes = {name: clean[name] for name in (self.fact.key, *self.fact.attributes)}
        rows = fit_integers(pa.table(attributes | references | self.product_columns(clean, references)), MODELS[self.fact.table])
        prepared.blocks += pack(complete(rows), binary=self.cursor.db.vendor == "postgresql")
        prepared.inferred.add(Inferred(inferred, self.years(clean)))

    def product_columns(self, clean: pa.Table, references: dict[str, pa.Array]) -> dict[str, pa.Array]:
        if not self.products:
            return {}
        return self.products.columns(references["product_key"], clean["quantity"].combine_chunks(), clean["net_amount"].combine_chunks())

    def years(self, clean: pa.Table) -> set[int]:
        columns = [clean[reference.natural] for reference in self.fact.references if reference.dimension == DIM_DATE.table]
        return {int(year) + 1970 for column in columns for year in np.unique(column.to_numpy().astype("datetime64[Y]").astype(int))}
