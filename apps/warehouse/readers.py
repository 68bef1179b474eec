"""The rights of `bi_reader`, where the server has this role (deploy/postgres/roles.sh creates it).

It may read the dimensions, the fact, the KPI views and the age of the data, and nothing else.
"""

from typing import Any

from django.apps import AppConfig
from django.db import connections, transaction

from apps.warehouse.dimensions import Dimension
from apps.warehouse.facts import FactSales
from apps.warehouse.kpi_sql import VIEWS
from apps.warehouse.own_schema import fix_schema

READER = "bi_reader"
AS_OF = "data_as_of"  # view of etl_load: the latest high-water mark and no other column


def grant_reader(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Grant SELECT after every migrate, so that a new dimension or a replaced view is readable too.

    One by one, because a default privilege would open etl_load as well. A full load swaps the fact's partition; the grant belongs to
    fact_sales and stays.
    """
    if using != sender.label or connections[using].vendor != "postgresql":
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        fix_schema(cursor)
        for relation in find_ungranted(cursor, readable_relations(sender)):
            cursor.execute(f"GRANT SELECT ON {relation} TO {READER}")


def readable_relations(warehouse: AppConfig) -> list[str]:
    tables = [model._meta.db_table for model in warehouse.get_models() if issubclass(model, Dimension | FactSales)]
    return [*tables, *(view.name for view in VIEWS), AS_OF]


def find_ungranted(cursor: Any, relations: list[str]) -> list[str]:
    """Return the `relations` that exist and that the role, if it exists, may not read. A needless GRANT could collide with a load."""
    cursor.execute(
        "SELECT name FROM unnest(%s::text[]) AS name JOIN pg_roles ON rolname = %s "
        "WHERE NOT has_table_privilege(rolname, to_regclass(name), 'SELECT')",
        [relations, READER],
    )
    return [row[0] for row in cursor.fetchall()]
