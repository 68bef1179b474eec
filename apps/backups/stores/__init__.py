from django.db import connections

from apps.backups.stores.base import Store
from apps.backups.stores.mysql import MySQL
from apps.backups.stores.postgres import PostgreSQL
from apps.backups.stores.sqlite import SQLite

STORES: dict[str, type[Store]] = {kind.vendor: kind for kind in (MySQL, PostgreSQL, SQLite)}

__all__ = ["Store", "store"]


def store(alias: str) -> Store:
    return STORES[connections[alias].vendor](alias)
