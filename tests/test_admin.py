"""Every page of the admin answers, and nobody can change the ledger or the sources."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User as Account
from django.core import checks
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from pytest_django.fixtures import Settings

from apps.console import urls  # noqa: F401  registers the pages
from apps.demo import changes, faults, shop
from apps.etl.load.keys import reserve
from apps.etl.tables import DIM_PRODUCT
from apps.orchestration import api
from apps.orchestration.models import Decision, Erasure, Mode, Run, Schedule, ScheduledRun, State, Trigger
from apps.orchestration.proof import prove
from apps.orchestration.schedules import fire_missed_schedules
from apps.orchestration.window import Window
from apps.sources.auth.models import Credential, Token
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, Order, OrderItem
from apps.sources.payments.models import Payment
from apps.warehouse.models import Prepared
from tests.orchestration.conftest import broker, schedules  # noqa: F401  fixtures
from tests.orchestration.harness import ago, fresh

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
OURS = [model for model in admin.site._registry if model._meta.app_label not in ("auth",)]
EDITABLE = (PeriodicTask, CrontabSchedule)
READ_ONLY = [model for model in OURS if model not in (*EDITABLE, Erasure)]  # a request to forget a customer can be added
DAILY = "techmarket-etl-daily"


def test_system_checks_pass() -> None:
    """`manage.py check` may run before urls.py has registered the admin's pages; here all are registered."""
    assert len(admin.site._registry) > 20 and checks.run_checks() == []


@pytest.fixture
def olena(client: Client, settings: Settings) -> Client:
    client.force_login(Account.objects.create_superuser("olena"))
    return client


@pytest.fixture
def loaded_run(transactional_db: None, schedules: None) -> Iterator[Run]:  # noqa: F811
    """Load a shop with a faulty row by two runs, compare it, and record a scheduled run. Return the second run."""
    shop.generate(200, 1)
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    api.run("full")
    changes.apply(15, 1)
    done = api.run("incremental")
    prove(Window.everything())
    ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=ago(hours=1), decision=Decision.RUN, run=done)
    yield done


def page(model: type[Model], name: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


def test_every_model_is_registered() -> None:
    labels = {"auth_db", "catalog_db", "orders_db", "payments_db", "dwh"}
    expected = {model for label in labels for model in apps.get_app_config(label).get_models()} - {Credential, Token}
    beat = {model for model in admin.site._registry if model._meta.app_label == "django_celery_beat"}
    assert expected < set(OURS) and beat == set(EDITABLE)


def test_every_page_answers(olena: Client, loaded_run: Run) -> None:
    """One test, so that the warehouse is loaded once. Opens each list and its first row."""
    shown = 0
    reserve(DIM_PRODUCT, np.array([777]))
    Prepared.objects.create(run_uuid=loaded_run.uuid, run_id=loaded_run.pk, fact="fact_sales", relation="x", is_partition=True, findings={})
    Erasure.objects.create(customer_id=1, reason="x", requested_by="olena")
    assert olena.get("/admin/").status_code == 200
    for model in OURS:
        first = model._default_manager.order_by("pk").first()
        pages = [page(model, "changelist"), page(model, "changelist") + "?q=а%27%22%25", page(model, "changelist") + "?o=-1"]
        if model is PeriodicTask:
            first = PeriodicTask.objects.get(name=DAILY)
        if first:
            pages.append(page(model, "change", first.pk))
            shown += 1
        for address in pages:
            assert olena.get(address).status_code == 200, address
    empty = [model.__name__ for model in OURS if not model._default_manager.exists()]
    assert shown == len(OURS) - len(empty) and empty == [], "every list has a row"


@pytest.mark.parametrize("model", [Customer, Order, OrderItem, Payment, Product])
def test_list_with_invalid_values(olena: Client, transactional_db: None, model: type[Model]) -> None:
    """Invalid UTF-8 is shown as escapes; a zero date, which Django cannot read, gives a message."""
    shop.generate(200, 1)
    faults.plant()
    answer = olena.get(page(model, "changelist") + "?o=1", follow=True)
    assert answer.status_code == 200
    shown = not answer.redirect_chain
    assert shown or "cannot be displayed" in answer.content.decode()
    assert shown or (model is Order or model is OrderItem or model is Payment)


def test_search(olena: Client, loaded_run: Run) -> None:
    product = apps.get_model("dwh", "DimProduct").objects.filter(pk__gt=0).first()
    found = olena.get(page(type(product), "changelist"), {"q": product.sku}).content.decode()
    assert product.name in found and found.count(product.sku) >= 1
    assert product.name not in olena.get(page(type(product), "changelist"), {"q": "no such sku"}).content.decode()


def test_run_page_shows_its_ledger(olena: Client, loaded_run: Run) -> None:
    text = olena.get(page(Run, "change", loaded_run.pk)).content.decode()
    for words in ("fact_sales", "Succeeded", "reconciliation net", "Incremental"):
        assert words in text, words


@pytest.mark.parametrize("model", READ_ONLY, ids=lambda model: model._meta.label)
def test_nobody_adds_changes_or_deletes(olena: Client, schedules: None, model: type[Model]) -> None:  # noqa: F811
    """Permissions are checked before any row is looked up, so empty tables suffice."""
    assert olena.post(page(model, "add"), {"name": "x"}).status_code == 403
    row = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.FAILED) if model is Run else None
    if model is Schedule:
        row = Schedule.objects.get(pk=DAILY)
    if row:
        for name in ("delete", "change"):
            assert olena.post(page(model, name, row.pk), {"post": "yes", "state": "succeeded", "cause": "x"}).status_code == 403
        assert fresh(row) == row and getattr(fresh(row), "cause", "") == ""
    text = olena.post(page(model, "changelist"), {"action": "delete_selected", "_selected_action": ["1"], "post": "yes"})
    assert text.status_code in (200, 302, 403)
    assert not row or fresh(row)


def test_secrets_have_no_page() -> None:
    assert not {Credential, Token} & set(admin.site._registry)


# --- Schedules ---


def beat() -> PeriodicTask:
    return PeriodicTask.objects.get(name=DAILY)


def save_schedule(client: Client, **fields: object) -> int:
    form = {"enabled": "on", "crontab": beat().crontab_id} | fields
    return client.post(page(PeriodicTask, "change", beat().pk), {name: value for name, value in form.items() if value}).status_code


def test_schedules_are_listed_without_beats_own_actions(olena: Client, schedules: None) -> None:  # noqa: F811
    text = olena.get(page(PeriodicTask, "changelist")).content.decode()
    assert DAILY in text and "techmarket-etl-weekly-full" in text and "techmarket-reap" not in text
    for action in ("run_tasks", "enable_tasks", "disable_tasks", "toggle_tasks", "delete_selected"):
        assert action not in text
        answer = olena.post(page(PeriodicTask, "changelist"), {"action": action, "_selected_action": [str(beat().pk)]})
        assert answer.status_code in (200, 302, 403)
    assert not Run.objects.exists() and beat().enabled


def test_pause_in_the_admin_is_remembered(olena: Client, schedules: None, broker: Any) -> None:  # noqa: F811
    assert save_schedule(olena, enabled=None) == 302
    schedule = Schedule.objects.get(name=DAILY)
    assert not beat().enabled and schedule.enabled_since is None and schedule.paused_at
    Schedule.objects.update(paused_at=ago(days=2))
    assert save_schedule(olena) == 302
    assert beat().enabled and Schedule.objects.get(name=DAILY).enabled_since
    fire_missed_schedules()
    assert [due.decision for due in ScheduledRun.objects.filter(schedule=DAILY)] == [Decision.HELD]
    assert not Run.objects.filter(requested_by=DAILY).exists()


def test_only_enabled_and_crontab_are_saved(olena: Client, schedules: None) -> None:  # noqa: F811
    other = CrontabSchedule.objects.create(hour="5", minute="15")
    assert save_schedule(olena, crontab=other.pk, name="mine", task="os.system", args='["x"]', queue="x") == 302
    row = beat()
    assert (row.crontab, row.task, row.args, row.queue) == (other, "techmarket.scheduled", f'["{DAILY}"]', None)
    assert save_schedule(olena, crontab=None) == 200, "the form is shown again"
    assert beat().crontab == other


def test_nobody_adds_or_deletes_a_schedule(olena: Client, schedules: None) -> None:  # noqa: F811
    assert olena.post(page(PeriodicTask, "add"), {"name": "x", "task": "x"}).status_code == 403
    assert olena.post(page(PeriodicTask, "delete", beat().pk), {"post": "yes"}).status_code == 403
    assert olena.post(page(CrontabSchedule, "delete", beat().crontab_id), {"post": "yes"}).status_code == 403
    assert beat().crontab


def test_crontab_is_edited(olena: Client, schedules: None) -> None:  # noqa: F811
    before = Schedule.objects.get(name=DAILY).enabled_since
    form = {"minute": "30", "hour": "4", "day_of_week": "*", "day_of_month": "*", "month_of_year": "*", "timezone": "Europe/Kyiv"}
    assert olena.post(page(CrontabSchedule, "change", beat().crontab_id), form).status_code == 302
    assert (beat().crontab.hour, str(beat().crontab.timezone)) == ("4", "Europe/Kyiv")
    after = Schedule.objects.get(name=DAILY).enabled_since
    assert before and after and after > before
    assert olena.post(page(CrontabSchedule, "change", beat().crontab_id), form | {"hour": "25"}).status_code == 200
    assert beat().crontab.hour == "4"


def test_only_staff_see_pages(client: Client) -> None:
    client.force_login(Account.objects.create_user("petro"))
    assert client.get(page(Run, "changelist")).status_code == 302
