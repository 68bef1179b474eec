"""dim_product. Grain: one product."""

import pyarrow as pa

from apps.etl.tables import DIM_PRODUCT, PRODUCTS
from apps.etl.transform.category import UNKNOWN, validate_categories, with_roots
from apps.etl.transform.rows import Outcome, Rows, to_batch

STATUSES = ("active", "inactive")


def transform(batches: dict[str, pa.Table]) -> Outcome:
    products = Rows(PRODUCTS, batches["products"])
    for column in ("name", "sku"):
        products.reject_missing(column)
    for column in ("price", "cost"):
        products.reject_missing(column)
        products.reject_amounts_below(column, 0)
    products.reject_unlisted("status", STATUSES, "unknown_status")
    products.reject_duplicates("id")
    categories = with_roots(validate_categories(batches["categories"]))
    names = categories[["id", "name", "root_name"]].set_axis(["category_id", "category_name", "root_category_name"], axis=1)
    clean = products.clean().rename(columns={"id": "product_id"}).merge(names, "left", "category_id", validate="many_to_one")
    clean = clean.fillna({"category_name": UNKNOWN, "root_category_name": UNKNOWN})
    return Outcome(DIM_PRODUCT.table, to_batch(clean, PRODUCTS), {DIM_PRODUCT.table: products.counts()}, products.rejects())
