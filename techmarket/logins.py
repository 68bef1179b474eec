"""The user and password of a database, read again from the file of its address where the server refuses those in use.

So a password is changed without a restart: first in the file, then on the server. Until then the earlier one is in use; from then on it
is refused, and the file has the new one. What processes got in a variable stays as it was at their start.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from techmarket import logs
from techmarket.environment import Environment

log = structlog.get_logger()
LOGIN = ("USER", "PASSWORD")
PLACE = ("HOST", "PORT")


def connect(database: BaseDatabaseWrapper, open_connection: Callable[[dict[str, Any]], Any], parameters: dict[str, Any]) -> Any:
    """Return what `open_connection` returns for these parameters, or else for those with the login that the file has now."""
    try:
        return open_connection(parameters)
    except database.Database.OperationalError:  # type: ignore[attr-defined]
        login = read_new_login(database)
        if not login:
            raise
        connection = open_connection(parameters | {"user": login["USER"], "password": login["PASSWORD"]})
    adopt(database, login)
    return connection


def read_new_login(database: BaseDatabaseWrapper) -> dict[str, str]:
    """Return user and password of the address in the file, where they are others than those in use; nothing for another server."""
    variable, config = settings.VARIABLES.get(database.alias, ""), database.settings_dict
    if f"{variable}_FILE" not in os.environ:
        return {}
    try:
        found = Environment(os.environ).database(variable, Path(), "mysql" if database.vendor == "mysql" else "postgres")
    except ImproperlyConfigured:
        return {}  # half written, or gone: the next attempt reads it again
    is_same_server = all(found.get(key, "") == config.get(key, "") for key in PLACE)
    login = {key: str(found.get(key, "")) for key in LOGIN}
    return login if is_same_server and login != {key: config.get(key, "") for key in LOGIN} else {}


def adopt(database: BaseDatabaseWrapper, login: dict[str, str]) -> None:
    """Use the login from now on, in every thread of this process."""
    logs.mask_also(login["PASSWORD"])
    for config in (database.settings_dict, settings.DATABASES[database.alias]):
        config.update(login)
    log.warning("the server has taken the new password", database=database.alias, user=login["USER"])
