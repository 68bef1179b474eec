"""Copies the three tables unchanged with dlt's sql_database. peers.py runs it in a separate Python, with `defaults` or `fast`."""

import os
import sys

import dlt
from dlt.sources.sql_database import sql_database

# Recommended for large tables by dlt's documentation of performance and of this source.
FAST = {
    "DATA_WRITER__BUFFER_MAX_ITEMS": "100000",
    "DATA_WRITER__FILE_MAX_ITEMS": "500000",
    "EXTRACT__WORKERS": "2",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
}


def tables(variable: str, names: list[str], fast: bool):
    address = os.environ[variable].split("://", 1)[1]
    if fast:
        return sql_database(f"mysql+pymysql://{address}", table_names=names, backend="connectorx", reflection_level="minimal").parallelize()
    return sql_database(f"mysql+pymysql://{address}", table_names=names, backend="pyarrow")


def main(fast: bool) -> None:
    os.environ.update(FAST if fast else {})
    address = "postgresql://" + os.environ["DWH_URL"].split("://", 1)[1]
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.postgres(address), dataset_name="dlt_way")
    loader = {"loader_file_format": "csv"} if fast else {}
    for variable, names in (("ORDERS_DB_URL", ["orders", "order_items"]), ("PAYMENTS_DB_URL", ["payments"])):
        pipeline.run(tables(variable, names, fast), write_disposition="replace", **loader).raise_on_failed_jobs()


if __name__ == "__main__":
    main(fast=sys.argv[1] == "fast")
