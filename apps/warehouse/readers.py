"""Who else reads the star: `bi_reader`, if the server knows it (deploy/postgres/roles.sh makes it); the star, its age, nothing else."""

from typing import Any

from django.apps import AppConfig
from django.db import connections

from apps.warehouse.dimensions import Dimension
from apps.warehouse.facts import FactSales

READER = "bi_reader"
AS_OF = "data_as_of"  # a view of etl_load: its latest high-water mark, and nothing else of it


def grant_star(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """After every migration, so that a new dimension is readable too. Table by table: a default privilege would open etl_load as well.

    A full load swaps the fact's partition; the grant hangs on fact_sales and stays.
    """
    if using != sender.label or connections[using].vendor != "postgresql":
        return
    with connections[using].cursor() as cursor:
        for table in ungranted(cursor, star(sender)):
            cursor.execute(f"GRANT SELECT ON {table} TO {READER}")


def star(warehouse: AppConfig) -> list[str]:
    return [*(model._meta.db_table for model in warehouse.get_models() if issubclass(model, Dimension | FactSales)), AS_OF]


def ungranted(cursor: Any, tables: list[str]) -> list[str]:
    """Those of `tables` that exist and that the reader, if it exists, may not read: a needless GRANT could collide with a load."""
    cursor.execute(
        "SELECT name FROM unnest(%s::text[]) AS name JOIN pg_roles ON rolname = %s "
        "WHERE NOT has_table_privilege(rolname, to_regclass(name), 'SELECT')",
        [tables, READER],
    )
    return [row[0] for row in cursor.fetchall()]
