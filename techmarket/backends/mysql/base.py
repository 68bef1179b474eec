"""MySQL and MariaDB."""

from typing import Any

from django.db.backends.mysql import base

from techmarket.logins import connect


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's, with a login that may change."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        return connect(self, super().get_new_connection, conn_params)
