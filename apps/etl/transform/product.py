"""dim_product. Grain: one product."""

import pyarrow as pa

from apps.etl.money import MAX_KOPIYKAS, uah
from apps.etl.tables import CATEGORIES, DIM_PRODUCT, PRODUCTS
from apps.etl.transform.category import UNKNOWN, with_roots
from apps.etl.transform.rows import Outcome, Rows, decimals, numbers

STATUSES = ("active", "inactive")


def transform(batches: dict[str, pa.Table]) -> Outcome:
    products = Rows(PRODUCTS, batches["products"])
    for column in ("price", "cost"):
        products.reject_missing(column)
        products.reject(products.numbers(column) < 0, "bad_money", column=column, least="0.00", greatest=str(uah(MAX_KOPIYKAS)))
    products.reject_unlisted("status", STATUSES, "unknown_status")
    products.reject_duplicates("id")
    categories = with_roots(Rows(CATEGORIES, batches["categories"]))
    names = categories[["id", "name", "root_name"]].set_axis(["category_id", "category_name", "root_category_name"], axis=1)
    clean = products.clean().rename(columns={"id": "product_id"}).merge(names, "left", "category_id", validate="many_to_one")
    clean = clean.fillna({"category_name": UNKNOWN, "root_category_name": UNKNOWN})
    table = pa.Table.from_pandas(clean)
    for column in ("price", "cost"):
        table = table.set_column(table.schema.get_field_index(column), column, decimals(numbers(clean[column])))
    return Outcome(DIM_PRODUCT.table, table, {DIM_PRODUCT.table: products.counts()}, products.rejects())
