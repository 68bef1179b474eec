"""Who may read the warehouse, where the server has these roles (deploy/postgres/roles.sh creates them).

`bi_reader` may read the dimensions, the fact, the KPI views and the age of the data, and nothing else; `etl_web` every table of ours.
"""

from typing import Any

from django.apps import AppConfig
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder

from apps.warehouse.dimensions import Dimension
from apps.warehouse.facts import FactSales
from apps.warehouse.kpi_sql import VIEWS
from apps.warehouse.own_schema import fix_schema
from techmarket.roles import WEB

BI_READER = "bi_reader"
AS_OF = "data_as_of"  # view of etl_load: the latest high-water mark and no other column


def grant_readers(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """Grant SELECT after every migrate, so that a new dimension or a replaced view is readable too.

    One by one, because a default privilege would open etl_load as well. A full load swaps the fact's partition; the grant belongs to
    fact_sales and stays.
    """
    if using != sender.label or connections[using].vendor != "postgresql":
        return
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        fix_schema(cursor)
        for role, relations in ((BI_READER, list_star(sender)), (WEB.name, list_all(sender))):
            for relation in find_ungranted(cursor, role, relations):
                cursor.execute(f"GRANT SELECT ON {relation} TO {role}")


def list_star(warehouse: AppConfig) -> list[str]:
    tables = [model._meta.db_table for model in warehouse.get_models() if issubclass(model, Dimension | FactSales)]
    return [*tables, *(view.name for view in VIEWS), AS_OF]


def list_all(warehouse: AppConfig) -> list[str]:
    return [*(model._meta.db_table for model in warehouse.get_models()), *list_star(warehouse), MigrationRecorder.Migration._meta.db_table]


def find_ungranted(cursor: Any, role: str, relations: list[str]) -> list[str]:
    """Return the `relations` that exist and that the role, if it exists, may not read. A needless GRANT could collide with a load."""
    cursor.execute(
        "SELECT name FROM unnest(%s::text[]) AS name JOIN pg_roles ON rolname = %s "
        "WHERE NOT has_table_privilege(rolname, to_regclass(name), 'SELECT')",
        [sorted(set(relations)), role],
    )
    return [row[0] for row in cursor.fetchall()]
