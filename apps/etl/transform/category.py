"""dim_category. Grain: one category."""

import pandas as pd
import pyarrow as pa

from apps.etl.tables import CATEGORIES, DIM_CATEGORY
from apps.etl.transform.rows import Outcome, Rows

UNKNOWN = "Unknown"


def transform(batches: dict[str, pa.Table]) -> Outcome:
    categories = validate_categories(batches["categories"])
    clean = with_roots(categories).rename(columns={"id": "category_id"})
    return Outcome(DIM_CATEGORY.table, pa.Table.from_pandas(clean), {DIM_CATEGORY.table: categories.counts()}, categories.rejects())


def validate_categories(raw: pa.Table) -> Rows:
    categories = Rows(CATEGORIES, raw)
    categories.reject_missing("name")
    categories.reject_duplicates("id")
    return categories


def with_roots(categories: Rows) -> pd.DataFrame:
    """Return the accepted categories with `root_name`: the parent's name, or their own where there is no parent. Two levels."""
    clean = categories.clean()
    parents = clean[["id", "name"]].rename(columns={"id": "parent_id", "name": "root_name"})
    rooted = clean.merge(parents, "left", "parent_id", validate="many_to_one")
    own = rooted["name"].where(rooted["parent_id"].isna(), UNKNOWN)
    return rooted.assign(root_name=rooted["root_name"].fillna(own))
