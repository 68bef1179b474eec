from datetime import datetime

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from techmarket.diagnosis import diagnosed


class Load(models.Model):
    """Grain: one published run. Written in the same transaction as the run's rows, so it exists if and only if they do."""

    run_uuid = models.UUIDField(
        _("run uuid"), primary_key=True, help_text=_("identifies the run even after the control database was recreated")
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
        help_text=_("by dimension and slice: fingerprint of the source rows when they were last read"),
    )
    published_at = models.DateTimeField(_("published at"), db_index=True, help_text=_("when the rows were written, by the worker's clock"))

    class Meta:
        db_table = "etl_load"
        verbose_name = _("load")
        verbose_name_plural = _("loads")

    def __str__(self) -> str:
        return gettext("Run %s") % self.run_id


def read_high_water_mark() -> datetime | None:
    """Return the instant before which all changes are in the warehouse."""
    with diagnosed("dwh"):
        latest = Load.objects.exclude(high_water_mark=None).order_by("-high_water_mark").first()
    return latest.high_water_mark if latest else None
