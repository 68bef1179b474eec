"""Servers of paper: Django's own words for a table, as on MySQL 8 and PostgreSQL 15, without a server and the same on every machine."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql import base as mysql
from django.db.backends.mysql.introspection import DatabaseIntrospection
from django.db.backends.postgresql import base as postgresql

SETTINGS: dict[str, Any] = {
    "NAME": "paper",
    "OPTIONS": {},
    "TIME_ZONE": None,
    "AUTOCOMMIT": True,
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": False,
    "ATOMIC_REQUESTS": False,
}


class Introspection(DatabaseIntrospection):
    """InnoDB indexes foreign keys by itself; Django would ask the server whether that is what it has."""

    def get_storage_engine(self, cursor: Any, table_name: str) -> str:
        return "InnoDB"


class MySQL(mysql.DatabaseWrapper):
    mysql_server_data = {
        "version": "8.0.36",
        "sql_mode": "STRICT_TRANS_TABLES",
        "default_storage_engine": "InnoDB",
        "sql_auto_is_null": False,
        "lower_case_table_names": False,
        "has_zoneinfo_database": True,
    }

    introspection_class = Introspection

    def __init__(self) -> None:
        super().__init__(SETTINGS, "mysql")

    def cursor(self) -> Any:
        """Nothing asks it anything."""


class PostgreSQL(postgresql.DatabaseWrapper):
    pg_version = 150_000

    def __init__(self) -> None:
        super().__init__(SETTINGS, "postgresql")


def server(alias: str) -> BaseDatabaseWrapper:
    return PostgreSQL() if alias == "dwh" else MySQL()
