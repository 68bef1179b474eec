"""dim_region. Grain: one region."""

import pyarrow as pa

from apps.etl.tables import DIM_REGION, REGIONS
from apps.etl.transform.rows import Outcome, Rows


def transform(batches: dict[str, pa.Table]) -> Outcome:
    regions = Rows(REGIONS, batches["regions"])
    for column in ("code", "name"):
        regions.reject_missing(column)
    regions.reject_duplicates("id")
    clean = regions.clean().rename(columns={"id": "region_id"})
    return Outcome(DIM_REGION.table, pa.Table.from_pandas(clean), {DIM_REGION.table: regions.counts()}, regions.rejects())
