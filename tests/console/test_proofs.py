"""The calendar of compared days, a day's page, and its repair."""

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.urls import reverse

from apps.console.groups import OPERATOR, VIEWER
from apps.demo import shop
from apps.orchestration.models import DayProof, Mode, Run, Trigger, Verdict
from apps.orchestration.proof import prove
from apps.orchestration.window import Window
from apps.orchestration.worker import delivery, tasks
from apps.orchestration.worker.delivery import RECENT_DAYS
from apps.warehouse.models import FactSales
from techmarket.formats import localize_uah
from tests.console.conftest import SignIn, page_text
from tests.etl.warehouse_rows import run_etl
from tests.orchestration.conftest import broker  # noqa: F401  fixture
from tests.orchestration.harness import FakeBroker, start_queued_run

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIST = "admin:orchestration_dayproof_changelist"
INDEX = "admin:index"


@pytest.fixture
def different_day() -> DayProof:
    """Load a shop, move one kopiyka in the warehouse, and compare."""
    shop.generate(40, 7)
    run_etl()
    with connections["dwh"].cursor() as cursor:
        cursor.execute(f"UPDATE fact_sales SET net_amount = net_amount + 0.01 WHERE order_item_id = {FactSales.objects.earliest('pk').pk}")
    prove(Window.everything())
    return DayProof.objects.get(verdict=Verdict.DIFFERENT)


def test_calendar_shows_each_day_with_its_verdict(different_day: DayProof, sign_in: SignIn) -> None:
    DayProof.objects.filter(day=DayProof.objects.exclude(pk=different_day.pk).latest("day").day.replace(day=1)).delete()
    viewer = sign_in(VIEWER)
    page = viewer.get(reverse(LIST)).content.decode()
    assert page.count("tm-day-equal") > 300 and 'title="' in page and "Not compared yet" in page
    text = page_text(viewer, reverse(INDEX))
    assert "Verified through" in text or "Not verified yet" in text
    assert "1 day differs" in text


def test_day_names_order_and_line(different_day: DayProof, sign_in: SignIn) -> None:
    fact = FactSales.objects.earliest("pk")
    page = sign_in(VIEWER).get(reverse("admin:orchestration_dayproof_change", args=[different_day.pk])).content.decode()
    assert f"Order {fact.order_id}" in page and f"Line {fact.pk}" in page and localize_uah(fact.net_amount) in page
    assert "Repair" not in page, "a viewer may start no run"


def test_repair_reads_exactly_the_orders_that_differ(
    different_day: DayProof,
    sign_in: SignIn,
    broker: FakeBroker,  # noqa: F811
) -> None:
    address = reverse("admin:orchestration_dayproof_repair", args=[different_day.pk])
    assert sign_in(VIEWER).post(address).status_code == 403
    operator = sign_in(OPERATOR)
    opened = operator.get(address)
    assert (opened.status_code, opened["Allow"], "Nothing was done" in opened.content.decode()) == (405, "POST", True)
    assert "Repair" in operator.get(reverse("admin:orchestration_dayproof_change", args=[different_day.pk])).content.decode()
    operator.post(address)
    run = Run.objects.latest("pk")
    assert run.orders == different_day.order_ids and run.trigger == Trigger.ADMIN and str(different_day.day) in run.reason
    assert list_history() == [(f"Started: {run.reason}", str(run.pk)), ("Repair started", str(different_day.day))]
    assert "Repair started" in page_text(operator, reverse("admin:orchestration_dayproof_history", args=[different_day.pk]))
    operator.post(address)
    skipped = Run.objects.latest("pk")
    assert list_history()[2:] == [(f"Started: {skipped.reason}", str(skipped.pk))], "a run that is skipped repairs nothing"
    broker.deliver_all()
    tasks.reconcile(None)
    assert not DayProof.objects.exclude(verdict=Verdict.EQUAL).exists()


def list_history() -> list[tuple[str, str]]:
    return list(LogEntry.objects.filter(user__username=OPERATOR).order_by("pk").values_list("change_message", "object_id"))


@pytest.mark.parametrize(("mode", "days"), [(Mode.INCREMENTAL, RECENT_DAYS), (Mode.FULL, None)])
def test_comparison_follows_a_scheduled_run(
    transactional_db: None,
    broker: FakeBroker,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    mode: Mode,
    days: int | None,
) -> None:
    monkeypatch.setattr(delivery, "send_reconcile", tasks.reconcile)
    shop.generate(20, 3)
    run_etl()
    assert not DayProof.objects.exists(), "a run by hand is followed by none"
    start_queued_run(mode, trigger=Trigger.SCHEDULE)
    broker.deliver_all()
    assert DayProof.objects.exists()
    assert (DayProof.objects.count() == days) if days else DayProof.objects.count() > 300
