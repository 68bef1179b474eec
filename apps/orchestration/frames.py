"""One table extracted or transformed without a run, for api.py: raw rows as data frames, plain rows as an outcome."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings

from apps.etl.declarations import Fact, Kind, Target
from apps.etl.extract.dimensions import extract_dimension
from apps.etl.extract.facts import extract_fact
from apps.etl.extract.survey import find_touched, open_order_snapshots
from apps.etl.metadata import set_metadata
from apps.etl.slices import EVERYTHING
from apps.etl.tables import RAW_FINGERPRINTS
from apps.etl.transform.registry import transform
from apps.etl.transform.rows import Outcome
from apps.etl.window import ChangeWindow
from apps.orchestration.window import Window, shop_date

CENT = pa.scalar(Decimal("0.01"), pa.decimal128(2, 2))


def extract_frames(target: Target, days: int | None) -> dict[str, pd.DataFrame]:
    requested = Window.last_days(days) if days else None
    window = ChangeWindow(requested.start, requested.end) if requested and requested.start else None
    if isinstance(target, Fact):
        batches = extract_fact(target, EVERYTHING, find_changed_orders(window) if window else None)
        del batches[RAW_FINGERPRINTS]
    else:
        batches = extract_dimension(target)
    money = {column.name for source in target.sources for column in source.columns if column.kind is Kind.MONEY}
    return {name: readable(batch, money).to_pandas(types_mapper=pd.ArrowDtype) for name, batch in batches.items()}


def find_changed_orders(window: ChangeWindow) -> Any:
    with open_order_snapshots() as snapshots:
        return np.array(find_touched(snapshots, window), dtype=np.int64)


def readable(batch: pa.Table, money: set[str]) -> pa.Table:
    for position, (name, column) in enumerate(zip(batch.column_names, batch.columns, strict=True)):
        whole = name in money and pa.types.is_integer(column.type)  # kopiykas
        target_type = pa.decimal128(21, 2) if name in money else pa.string() if pa.types.is_binary(column.type) else column.type
        try:
            text = column.cast(pa.string()) if pa.types.is_binary(column.type) else column
            values = pc.multiply(text.cast(pa.decimal128(19, 0)), CENT).cast(target_type) if whole else text.cast(target_type)
        except pa.ArrowInvalid:
            continue  # a value that is not text, or not an amount, is returned as it is
        batch = batch.set_column(position, name, values)
    return batch


def transform_rows(target: Target, rows: Mapping[str, Sequence[Mapping[str, object]]]) -> Outcome:
    batches = {
        source.table: pa.table({column.name: texts(rows.get(source.table, ()), column.name) for column in source.columns})
        for source in target.sources
    }
    now = datetime.now(UTC)  # by this machine's clock: no database is asked, and nothing is stored
    batches = {name: set_metadata(batch, clock=now.isoformat()) for name, batch in batches.items()}
    return transform(target.table, batches, settings.SHOP_TIME_ZONE, shop_date(now))


def texts(rows: Sequence[Mapping[str, object]], name: str) -> pa.Array:
    values = [row.get(name) for row in rows]
    words = [None if value is None else str(int(value) if isinstance(value, bool) else value).encode() for value in values]
    return pa.array(words, pa.binary())
