"""Offline database backends: they make Django's SQL for MySQL 8 and PostgreSQL 15 without a server, the same on every machine."""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql import base as mysql
from django.db.backends.mysql.introspection import DatabaseIntrospection
from django.db.backends.postgresql import base as postgresql

SETTINGS: dict[str, Any] = {
    "NAME": "offline",
    "OPTIONS": {},
    "TIME_ZONE": None,
    "AUTOCOMMIT": True,
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": False,
    "ATOMIC_REQUESTS": False,
}


class OfflineIntrospection(DatabaseIntrospection):
    """Answers InnoDB, which indexes foreign keys by itself, where Django would query the server for the storage engine."""

    def get_storage_engine(self, cursor: Any, table_name: str) -> str:
        return "InnoDB"


class OfflineMySQL(mysql.DatabaseWrapper):
    """MySQL 8.0 without a connection."""

    mysql_server_data = {
        "version": "8.0.36",
        "sql_mode": "STRICT_TRANS_TABLES",
        "default_storage_engine": "InnoDB",
        "sql_auto_is_null": False,
        "lower_case_table_names": False,
        "has_zoneinfo_database": True,
    }

    introspection_class = OfflineIntrospection

    def __init__(self) -> None:
        super().__init__(SETTINGS, "mysql")

    def cursor(self) -> Any:
        """Return None: OfflineIntrospection takes a cursor and does not use it."""


class OfflinePostgreSQL(postgresql.DatabaseWrapper):
    """PostgreSQL 15 without a connection."""

    pg_version = 150_000

    def __init__(self) -> None:
        super().__init__(SETTINGS, "postgresql")


def make_backend(alias: str) -> BaseDatabaseWrapper:
    return OfflinePostgreSQL() if alias == "dwh" else OfflineMySQL()
