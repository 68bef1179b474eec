"""What keeps entries from being changed: triggers, and on PostgreSQL also grants. After each migrate, since they name AUDIT_KEEP_DAYS."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from apps.audit.chain import lock_head, record, save_head
from apps.audit.models import Deed, Entry
from techmarket.roles import read_schema
from techmarket.routers import find_database

REFUSAL = "audit_entry is append-only: entries are neither changed nor deleted before AUDIT_KEEP_DAYS are over"
# Whoever owns the table can take these back, which `manage.py audit --verify` reports.
POSTGRESQL = """
CREATE OR REPLACE FUNCTION audit_entry_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.at < now() - interval '{days} days' THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '{refusal}';
END $$;
CREATE OR REPLACE TRIGGER audit_entry_changed BEFORE UPDATE OR DELETE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_entry_refuse();
CREATE OR REPLACE TRIGGER audit_entry_truncated BEFORE TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_refuse();
ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_changed;
ALTER TABLE audit_entry ENABLE ALWAYS TRIGGER audit_entry_truncated;
REVOKE UPDATE, DELETE, TRUNCATE ON audit_entry FROM PUBLIC, CURRENT_USER;
-- Workers, who delete what is older, do not own the log; the trigger refuses what is younger.
CREATE OR REPLACE FUNCTION audit_entry_delete(last bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {schema}, pg_temp AS $$
DECLARE
    deleted bigint;
BEGIN
    GRANT DELETE ON audit_entry TO CURRENT_USER;
    DELETE FROM audit_entry WHERE number <= last;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    REVOKE DELETE ON audit_entry FROM CURRENT_USER;
    RETURN deleted;
END $$;
REVOKE EXECUTE ON FUNCTION audit_entry_delete(bigint) FROM PUBLIC;
"""
# Statement by statement: SQLite's driver takes one at a time. RAISE ends the statement alone.
SQLITE = (
    "DROP TRIGGER IF EXISTS audit_entry_changed",
    "DROP TRIGGER IF EXISTS audit_entry_deleted",
    "CREATE TRIGGER audit_entry_changed BEFORE UPDATE ON audit_entry BEGIN SELECT RAISE(ABORT, '{refusal}'); END",
    "CREATE TRIGGER audit_entry_deleted BEFORE DELETE ON audit_entry WHEN OLD.at >= datetime('now', '-{days} days')"
    " BEGIN SELECT RAISE(ABORT, '{refusal}'); END",
)
ENABLED_ON_POSTGRESQL = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audit_entry'::regclass AND NOT tgisinternal AND tgenabled = 'A'"
TRIGGERS = {
    "postgresql": (("audit_entry_changed", "audit_entry_truncated"), ENABLED_ON_POSTGRESQL),
    "sqlite": (
        ("audit_entry_changed", "audit_entry_deleted"),
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_entry'",
    ),
}


def protect_after_migrate(using: str, **kwargs: Any) -> None:
    if using == find_database(Entry._meta.app_label) and Entry._meta.db_table in connection.introspection.table_names():
        protect()


def protect() -> None:
    """Create the triggers anew, for the present AUDIT_KEEP_DAYS."""
    values = {"refusal": REFUSAL, "days": settings.AUDIT_KEEP_DAYS}
    statements = (POSTGRESQL,) if connection.vendor == "postgresql" else SQLITE
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            values["schema"] = read_schema(cursor)
        for statement in statements:
            cursor.execute(statement.format(**values))


def verify_protection() -> Iterator[str]:
    """Yield the triggers that are missing or disabled."""
    expected, query = TRIGGERS[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(query)
        found = {name for (name,) in cursor.fetchall()}
    for name in sorted(set(expected) - found):
        yield f"The trigger {name} is missing or disabled: entries can be changed. `manage.py migrate_all` creates it again."


def delete_old_entries() -> int:
    """Delete the entries older than AUDIT_KEEP_DAYS, and record that. Return their number."""
    limit = Now() - timedelta(days=settings.AUDIT_KEEP_DAYS)
    if not Entry.objects.filter(at__lt=limit).exists():
        return 0
    with transaction.atomic():
        head = lock_head()
        young = Entry.objects.filter(at__gte=limit).last()  # the one with the lowest number, whatever the clock once was
        last = Entry.objects.filter(number__lt=young.number).first() if young else Entry.objects.first()
        if last is None:
            return 0
        count = delete_to(last.number)
        head.first_number, head.first_previous_hash = last.number + 1, last.hash
        save_head(head)
        record(Deed.AUDIT_DELETED, after={"entries": count, "to": last.number})
    return count


def delete_to(number: int) -> int:
    """Delete the entries up to this number. On PostgreSQL their owner has the right to do so within this function alone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT audit_entry_delete(%s)", [number])
            return int(cursor.fetchone()[0])
        cursor.execute("DELETE FROM audit_entry WHERE number <= %s", [number])
        return int(cursor.rowcount)
