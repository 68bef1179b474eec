"""The calendar of days, compared or not; a day's page with the orders that differ; and their repair."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, gettext_noop

from apps.console.readonly import ReadOnlyAdmin
from apps.console.runs.actions import STARTED, HistoryAdmin, describe_start, run_address, show_result
from apps.console.runs.start_form import START_PERMISSION
from apps.etl.money import uah
from apps.orchestration.models import DayProof, Mode, PaymentMismatch, State, Trigger, Verdict
from apps.orchestration.requests import start_run
from techmarket.errors import EtlError
from techmarket.formats import localize_count, localize_uah
from techmarket.messages import translate

VARIANTS = {Verdict.EQUAL: "success", Verdict.CHANGED: "warning", Verdict.DIFFERENT: "danger"}
NUMBERS = {
    "orders": gettext_lazy("Orders"),
    "lines": gettext_lazy("Lines"),
    "quantity": gettext_lazy("Quantity"),
    "gross": gettext_lazy("Gross"),
    "discount": gettext_lazy("Discount"),
    "net": gettext_lazy("Net"),
    "paid": gettext_lazy("Paid"),
}
MONEY = ("gross", "discount", "net", "paid")
MONTHS = 24  # shown in the calendar
REPAIRED = gettext_noop("Repair started")


@dataclass(frozen=True)
class Day:
    """A day of the calendar; without a verdict it has not been compared."""

    day: date
    verdict: str = ""
    differing: int = 0

    @property
    def label(self) -> str:
        return str(Verdict(self.verdict).label) if self.verdict else _("Not compared yet")


def build_calendar() -> list[tuple[date, list[Day]]]:
    """Return the latest months, newest first, with their days."""
    ends = DayProof.objects.aggregate(first=Min("day"), last=Max("day"))
    if not ends["first"]:
        return []
    known = {day: Day(day, verdict, count) for day, verdict, count in DayProof.objects.values_list("day", "verdict", "differing")}
    span = (ends["first"] + timedelta(days=number) for number in range((ends["last"] - ends["first"]).days + 1))
    days = [known.get(day, Day(day)) for day in span]
    months = [(month, list(group)) for month, group in groupby(days, key=lambda each: each.day.replace(day=1))]
    return months[: -MONTHS - 1 : -1]


@admin.register(DayProof)
class DayProofAdmin(HistoryAdmin, ReadOnlyAdmin):
    list_display = ("day", "verdict", "differing", "net_difference", "paid_difference", "checked_at", "star_as_of")
    list_filter = ("verdict",)
    list_before_template = "console/proofs/calendar.html"
    change_form_template = "console/proofs/day.html"
    date_hierarchy = "day"
    empty_text = gettext_lazy(
        "Days appear here once they are compared with the sources: after each scheduled run, or by `manage.py reconcile`."
    )

    @admin.display(description=gettext_lazy("net difference"))
    def net_difference(self, proof: DayProof) -> str:
        return difference(proof, "net")

    @admin.display(description=gettext_lazy("paid difference"))
    def paid_difference(self, proof: DayProof) -> str:
        return difference(proof, "paid")

    def get_urls(self) -> list[Any]:
        repair = self.admin_site.admin_view(self.repair)
        return [path("<str:day>/repair/", repair, name="orchestration_dayproof_repair"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        mismatches = PaymentMismatch.objects.order_by().values("order_id").distinct().count()
        response: HttpResponse = super().changelist_view(
            request, (extra_context or {}) | {"months": build_calendar(), "mismatches": mismatches}
        )
        return response

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any) -> HttpResponse:
        proof = context.get("original")
        if isinstance(proof, DayProof):
            context |= {
                "proof": proof,
                "variant": VARIANTS[Verdict(proof.verdict)],
                "numbers": list(list_numbers(proof)),
                "orders": [describe_order(order) for order in proof.orders],
                "hidden": proof.differing - len(proof.orders),
                "may_repair": bool(proof.order_ids) and request.user.has_perm(START_PERMISSION),
            }
        response: HttpResponse = super().render_change_form(request, context, *args, **options)
        return response

    def repair(self, request: HttpRequest, day: str) -> HttpResponse:
        """Start a run of exactly the orders that differ on the day."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and request.user.has_perm(START_PERMISSION)):
            raise PermissionDenied
        proof = get_object_or_404(DayProof, pk=day)
        person, reason = request.user.get_username(), _("Repair of %s") % proof.day
        try:
            run = start_run(Mode.INCREMENTAL, Trigger.ADMIN, person, reason=reason, queue=True, orders=proof.order_ids)
        except EtlError as error:
            messages.error(request, translate(error.message))
            return redirect("admin:orchestration_dayproof_change", proof.pk)
        self.add_history_entry(request, run, STARTED, reason)
        if run.state != State.SKIPPED:
            self.add_history_entry(request, proof, REPAIRED, "")
        show_result(request, describe_start(run))
        return redirect(run_address("change", run.pk))


def difference(proof: DayProof, name: str) -> str:
    return localize_uah(uah(proof.star.get(name, 0) - proof.source.get(name, 0)))


def list_numbers(proof: DayProof) -> Iterator[tuple[str, ...]]:
    """Yield name, sources, warehouse and difference of each number."""
    for name, label in NUMBERS.items():
        source, star = proof.source.get(name, 0), proof.star.get(name, 0)
        yield str(label), *(amount(name, value) for value in (source, star, star - source))


def amount(name: str, value: int | None) -> str:
    if value is None:
        return ""
    return localize_uah(uah(value)) if name in MONEY else localize_count(value)


def describe_order(order: dict[str, Any]) -> dict[str, Any]:
    """Describe an order that differs for the page: the side that lacks it, the totals and lines that differ, and links."""
    source, star = order["source"], order["star"]
    missing = _("not in the warehouse") if not star["lines"] else _("not in the sources") if not source["lines"] else ""
    shown = [name for name in NUMBERS if name in source and source[name] != star[name]]
    return {
        "id": order["order_id"],
        "href": reverse("admin:orders_db_order_change", args=[order["order_id"]]),
        "facts": f"{reverse('admin:dwh_factsales_changelist')}?q={order['order_id']}",
        "changed": order["changed"],
        "missing": missing,
        "numbers": [(str(NUMBERS[name]), amount(name, source[name]), amount(name, star[name])) for name in shown],
        "lines": [describe_line(line) for line in order["lines"]],
    }


def describe_line(line: dict[str, Any]) -> tuple[int, str, str, str]:
    """Return the line's id, the column, and its value on both sides: the net of a line that only one side has."""
    column = line["column"]
    source, star = (amount(column or "net", line[side]) for side in ("source", "star"))
    return line["line"], str(NUMBERS.get(column, column)), source, star
