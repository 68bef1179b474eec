"""Which schema of a PostgreSQL database is the warehouse's: that of etl_load, or before the first migration the one where it will be."""

from typing import Any

FIX = """
SELECT set_config('search_path', COALESCE(
    (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('etl_load')), quote_ident(current_schema())
), true)
"""


def fix_schema(cursor: Any) -> None:
    """Let names mean the warehouse's own schema until the transaction ends.

    Otherwise a table, view, function or operator in another schema of the search path may come before ours, and new tables land there.
    PostgreSQL's own names and temporary tables come first without being named.
    """
    if cursor.db.vendor == "postgresql":
        cursor.execute(FIX)
