"""Which transform makes the rows of which table of the warehouse."""

from datetime import date

import pyarrow as pa

from apps.etl.transform import calendar, category, customer, employee, product, region, sales
from apps.etl.transform.rows import Outcome

DIMENSIONS = {
    "dim_region": region.transform,
    "dim_category": category.transform,
    "dim_product": product.transform,
    "dim_customer": customer.transform,
    "dim_employee": employee.transform,
}


def transform(table: str, batches: dict[str, pa.Table], zone: str, today: date) -> Outcome:
    """The clean batch of one table of the warehouse from its raw batches by source table. `zone`: the shop's; `today`: its date there."""
    if table == "fact_sales":
        return sales.transform(batches, zone)
    if table == "dim_date":
        return calendar.transform(today)
    return DIMENSIONS[table](batches)
