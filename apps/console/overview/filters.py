"""The three filters of the KPIs: start, end, region."""

from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.console.overview.sales import Sold
from apps.orchestration.window import EARLIEST
from apps.warehouse.dimensions import DimRegion

YEAR = timedelta(days=364)
SPANS = ((29, _("30 days")), (89, _("90 days")), (YEAR.days, _("a year")))
ISO = "%Y-%m-%d"


class Day(forms.DateField):
    """As the browser's own calendar gives it, in every language."""

    def __init__(self, **options: Any):
        widget = UnfoldAdminTextInputWidget(attrs={"type": "date", "min": EARLIEST.isoformat()})
        super().__init__(required=False, input_formats=[ISO], widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        return value.strftime(ISO) if isinstance(value, date) else value

    def validate(self, value: date | None) -> None:
        super().validate(value)
        if value and not EARLIEST.year <= value.year <= EARLIEST.year + 100:
            raise forms.ValidationError(_("No sale is of that year."))


def regions() -> list[tuple[Any, Any]]:
    return [("", _("All regions")), *DimRegion.objects.filter(pk__gt=0).order_by("name").values_list("code", "name")]


class Filters(forms.Form):
    start = Day(label=_("From"))
    end = Day(label=_("To, included"))
    region = forms.ChoiceField(label=_("Region"), required=False, choices=regions, widget=UnfoldAdminSelectWidget)

    def __init__(self, asked: QueryDict, sold: Sold):
        """Nothing asked: the last year with sales. An empty field: as far as there are sales."""
        given = asked if any(name in asked for name in self.base_fields) else last(YEAR.days, sold)
        super().__init__(given)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        start, end = cleaned.get("start"), cleaned.get("end")
        if start and end and end < start:
            raise forms.ValidationError(_("The end is before the start."))
        return cleaned


def last(days: int, sold: Sold) -> dict[str, str]:
    """So many days before the last one with a sale, and that one."""
    if sold is None:
        return {}
    first = max(sold[1] - timedelta(days=days), EARLIEST)
    return {"start": first.isoformat(), "end": sold[1].isoformat()}
