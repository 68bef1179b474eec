from django.db import connections

from apps.backups.stores.base import Store
from apps.backups.stores.mysql import MySQL
from apps.backups.stores.postgres import PostgreSQL
from apps.backups.stores.sqlite import SQLite

STORES: dict[str, type[Store]] = {store.vendor: store for store in (MySQL, PostgreSQL, SQLite)}

__all__ = ["Store", "get_store"]


def get_store(alias: str) -> Store:
    return STORES[connections[alias].vendor](alias)
