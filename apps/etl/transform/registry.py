"""Which transform makes the rows of which table of the warehouse."""

from datetime import date

import pyarrow as pa

from apps.etl.tables import DIM_CATEGORY, DIM_CUSTOMER, DIM_DATE, DIM_EMPLOYEE, DIM_PRODUCT, DIM_REGION, FACT_SALES
from apps.etl.transform import calendar, category, customer, employee, product, region, sales
from apps.etl.transform.rows import Outcome

DIMENSIONS = {
    DIM_REGION.table: region.transform,
    DIM_CATEGORY.table: category.transform,
    DIM_PRODUCT.table: product.transform,
    DIM_CUSTOMER.table: customer.transform,
    DIM_EMPLOYEE.table: employee.transform,
}
FACTS = {
    FACT_SALES.table: sales.transform,
}


def transform(table: str, batches: dict[str, pa.Table], zone: str, today: date) -> Outcome:
    """Transform the raw batches (by source table) of one table of the warehouse. `zone`: the shop's time zone; `today`: its date there."""
    if table == DIM_DATE.table:
        return calendar.transform(today)
    if table in FACTS:
        return FACTS[table](batches, zone)
    return DIMENSIONS[table](batches)
