"""The filters of the KPIs: start, end and region."""

from datetime import date, timedelta
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.console.overview.sales import SalesDates
from apps.orchestration.window import EARLIEST
from apps.warehouse.dimensions import DimRegion

YEAR_DAYS = 365
SPANS = ((30, _("Last 30 days")), (90, _("Last 90 days")), (YEAR_DAYS, _("Last year")))
ISO = "%Y-%m-%d"


class IsoDateField(forms.DateField):
    """A date as a browser's date input sends it in every language."""

    def __init__(self, **options: Any):
        widget = UnfoldAdminTextInputWidget(attrs={"type": "date", "min": EARLIEST.isoformat()})
        super().__init__(required=False, input_formats=[ISO], widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        return value.strftime(ISO) if isinstance(value, date) else value

    def validate(self, value: date | None) -> None:
        super().validate(value)
        if value and not EARLIEST.year <= value.year <= EARLIEST.year + 100:
            raise forms.ValidationError(_("There are no sales in that year."))


def list_regions() -> list[tuple[Any, Any]]:
    return [("", _("All regions")), *DimRegion.objects.filter(pk__gt=0).order_by("name").values_list("code", "name")]


class Filters(forms.Form):
    start = IsoDateField(label=_("From"))
    end = IsoDateField(label=_("To (inclusive)"))
    region = forms.ChoiceField(label=_("Region"), required=False, choices=list_regions, widget=UnfoldAdminSelectWidget)

    def __init__(self, query: QueryDict, dates: SalesDates):
        """Without a query show the last year with sales. An empty field sets no limit."""
        is_chosen = any(name in query for name in Filters.base_fields)
        super().__init__(query if is_chosen else query.dict() | last_days(YEAR_DAYS, dates))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in self.data:
            if name not in self.fields:
                known = ", ".join(self.fields)
                raise forms.ValidationError(
                    _("There is no filter %(name)s. The filters are %(known)s."), params={"name": name, "known": known}
                )
        start, end = cleaned.get("start"), cleaned.get("end")
        if start and end and end < start:
            raise forms.ValidationError(_("The end date is before the start date."))
        return cleaned


def last_days(count: int, dates: SalesDates) -> dict[str, str]:
    """Return the filters of the last `count` days, of which the last one with a sale is the end."""
    if dates is None:
        return {}
    first = max(dates[1] - timedelta(days=count - 1), EARLIEST)
    return {"start": first.isoformat(), "end": dates[1].isoformat()}
