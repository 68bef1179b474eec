"""What runs have prepared and not published yet: reserved surrogate keys, and tables that no reader knows."""

from collections.abc import Iterable

from django.db import connections, models, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from apps.warehouse.own_schema import fix_schema


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
    """Drop the tables of these rows, and the rows. On SQLite nothing is prepared."""
    prepared = list(rows)
    if not prepared:
        return
    with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        fix_schema(cursor)
        for row in prepared:
            cursor.execute(f"DROP TABLE IF EXISTS {row.relation}")
        forget_prepared(prepared)


def forget_prepared(rows: Iterable[Prepared]) -> None:
    """Delete the rows alone: their tables are in use, or gone."""
    Prepared.objects.filter(pk__in=[row.pk for row in rows]).delete()


def find_tableless(rows: Iterable[Prepared]) -> list[Prepared]:
    """Return the rows whose tables somebody has dropped."""
    prepared = list(rows)
    if not prepared:
        return []
    with transaction.atomic(using="dwh"), connections["dwh"].cursor() as cursor:
        fix_schema(cursor)
        cursor.execute("SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL", [[row.relation for row in prepared]])
        missing = {row[0] for row in cursor.fetchall()}
    return [row for row in prepared if row.relation in missing]
