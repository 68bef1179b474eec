from datetime import datetime
from typing import Any

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from techmarket.diagnosis import diagnosed


class Load(models.Model):
    """Grain: one published run. Written in the same transaction as the run's rows, so it exists if and only if they do."""

    run_uuid = models.UUIDField(
        _("run uuid"), primary_key=True, help_text=_("identifies the run even after the control database was recreated")
    )
    sequence = models.BigIntegerField(
        _("sequence"),
        unique=True,
        help_text=_("1, 2, 3 ...: the order of publication, whatever clocks say"),
    )
    run_id = models.BigIntegerField(_("run id"), db_index=True, help_text=_("number of the run in the ledger"))
    mode = models.CharField(_("mode"), max_length=20, help_text=_("full or incremental"))
    window_start = models.DateTimeField(_("window start"), null=True, help_text=_("inclusive; empty for a full run"))
    window_end = models.DateTimeField(_("window end"), null=True, help_text=_("exclusive; empty for a full run"))
    high_water_mark = models.DateTimeField(
        _("high water mark"), null=True, help_text=_("changes before this instant, by the sources' clocks, are in the warehouse")
    )
    counts = models.JSONField(_("counts"), help_text=_("rows by table: inserted, updated, unchanged, deleted, derived"))
    fingerprints = models.JSONField(
        _("fingerprints"),
        default=dict,
        help_text=_("by dimension and slice: fingerprints of the source rows as they were read and of the rows as they were written"),
    )
    rules = models.CharField(
        _("rules"), max_length=64, default="", help_text=_("digest of the declarations and rules under which all rows were read")
    )
    published_at = models.DateTimeField(
        _("published at"), db_index=True, help_text=_("when the rows were written, by the control database's clock")
    )

    class Meta:
        db_table = "etl_load"
        verbose_name = _("load")
        verbose_name_plural = _("loads")

    def __str__(self) -> str:
        return gettext("Run %s") % self.run_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.sequence is None:
            self.sequence = (Load.objects.aggregate(latest=models.Max("sequence"))["latest"] or 0) + 1
        super().save(*args, **kwargs)


def latest_load() -> Load | None:
    with diagnosed("dwh"):
        return Load.objects.order_by("-sequence").first()


def read_high_water_mark() -> datetime | None:
    """Return the instant before which all changes are in the warehouse: the latest load's, even where an earlier one's is later."""
    latest = latest_load()
    return latest.high_water_mark if latest else None
