"""What runs have prepared and not published yet: reserved surrogate keys, and tables that no reader knows."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import structlog
from django.db import DatabaseError, connections, models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.warehouse.own_schema import fix_schema
from techmarket.driver_errors import DEPENDED_ON, LOCK_NOT_AVAILABLE, NOT_PERMITTED, state_of

log = structlog.get_logger()
LEFT = (LOCK_NOT_AVAILABLE, NOT_PERMITTED, DEPENDED_ON)
NOBODY = UUID(int=0)  # whose run's the tables are that could not be dropped
THERE = "SELECT name FROM unnest(%s::text[]) AS name JOIN pg_class ON pg_class.oid = to_regclass(name) WHERE NOT relispartition"


class ReservedKey(models.Model):
    """Grain: one surrogate key, given to a natural key whose dimension row is not published yet. The publication of the row deletes it."""

    id = models.BigAutoField(_("id"), primary_key=True, help_text=_("surrogate key"))
    dimension = models.CharField(_("dimension"), max_length=40, help_text=_("table of the dimension"))
    member_id = models.BigIntegerField(_("member id"), help_text=_("id of the member in its source"))
    member_key = models.BigIntegerField(_("member key"), help_text=_("surrogate key that its row will have"))

    class Meta:
        db_table = "etl_reserved_key"
        verbose_name = _("reserved key")
        verbose_name_plural = _("reserved keys")
        constraints = [
            models.UniqueConstraint(fields=["dimension", "member_id"], name="one_reserved_key_per_member"),
            models.UniqueConstraint(fields=["dimension", "member_key"], name="one_member_per_reserved_key"),
        ]

    def __str__(self) -> str:
        return gettext("Key %s") % self.member_key


class Prepared(models.Model):
    """Grain: one range of orders of a fact that a run has prepared. Its rows are in a table of this schema, `relation`.

    The two are written in one transaction. The publication of the run deletes the row; of an unsuccessful run the table is dropped with it.
    """

    id = models.BigAutoField(_("id"), primary_key=True, help_text=_("surrogate key"))
    run_uuid = models.UUIDField(_("run uuid"), db_index=True, help_text=_("identifies the run"))
    run_id = models.BigIntegerField(_("run id"), help_text=_("number of the run in the ledger"))
    fact = models.CharField(_("fact"), max_length=40, help_text=_("table of the fact"))
    low = models.BigIntegerField(_("low"), null=True, help_text=_("first order id of the range; empty: from the beginning"))
    high = models.BigIntegerField(_("high"), null=True, help_text=_("order id after the last one; empty: to the end"))
    relation = models.CharField(_("relation"), max_length=63, help_text=_("table with the prepared rows"))
    is_partition = models.BooleanField(
        _("is a partition"), help_text=_("the table holds all rows of the range and becomes a partition; otherwise it holds what differs")
    )
    findings = models.JSONField(_("findings"), help_text=_("counts and sums of the rows, and what the publication has to add for them"))
    created_at = models.DateTimeField(_("created at"), db_default=Now(), help_text=_("when it was prepared, by the warehouse's clock"))

    class Meta:
        db_table = "etl_prepared"
        verbose_name = _("prepared range")
        verbose_name_plural = _("prepared ranges")

    def __str__(self) -> str:
        return self.relation


def drop_prepared(rows: Iterable[Prepared]) -> None:
    """Drop the tables of these rows, and the rows, but for what another session publishes or drops now. On SQLite nothing is prepared.

    A table that cannot be dropped is left, as nobody's, to whoever cleans up next: another role has made it, a view hangs on it, or it is
    read, by pg_dump for an hour perhaps.
    """
    for row in rows:
        try:
            with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
                fix_schema(cursor)
                if lock_free([row]):
                    drop_unlocked(cursor, row.relation)
                    row.delete()
        except DatabaseError as error:
            if state_of(error) not in LEFT:
                raise
            log.warning("a prepared table is left", table=row.relation, cause=str(error))
            leave_to_others(row)


def lock_free(rows: Iterable[Prepared]) -> list[int]:
    """Lock those of the rows that no other session has locked until the end of the transaction. Return their ids."""
    free = Prepared.objects.select_for_update(skip_locked=True)
    return list(free.filter(pk__in=[row.pk for row in rows]).values_list("pk", flat=True))


def leave_to_others(row: Prepared) -> None:
    with transaction.atomic(using="dwh"):
        Prepared.objects.filter(pk__in=lock_free([row])).update(run_uuid=NOBODY)


def drop_unlocked(cursor: Any, relation: str) -> None:
    """Drop a table, if it exists and nobody has made it a partition. Raises DatabaseError where it cannot be dropped at once."""
    cursor.execute("SELECT NOT relispartition FROM pg_class WHERE oid = to_regclass(%s)", [relation])
    if (cursor.fetchone() or [False])[0]:
        cursor.execute("SHOW lock_timeout")
        before = cursor.fetchone()[0]
        cursor.execute("SET LOCAL lock_timeout = '20ms'")
        cursor.execute(f"DROP TABLE {relation}")
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def forget_prepared(rows: Iterable[Prepared]) -> None:
    """Delete the rows alone: their tables are in use, or gone."""
    Prepared.objects.filter(pk__in=[row.pk for row in rows]).delete()


def find_tableless(rows: Iterable[Prepared]) -> list[Prepared]:
    """Return the rows whose tables somebody has dropped, or made partitions."""
    prepared = list(rows)
    if not prepared:
        return []
    with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        fix_schema(cursor)
        cursor.execute(THERE, [[row.relation for row in prepared]])
        there = {row[0] for row in cursor.fetchall()}
    return [row for row in prepared if row.relation not in there]
