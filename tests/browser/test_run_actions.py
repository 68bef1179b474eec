"""The actions in a browser with a real worker: start, cause, resume, cancel; rejected rows, schedules, languages, hostile values."""

import re
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.db import connections
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from playwright.sync_api import Page, expect

from apps.console.groups import ADMINISTRATOR, OPERATOR, VIEWER
from apps.demo import changes, shop
from apps.orchestration import api
from apps.orchestration.models import Decision, Mode, PaymentMismatch, Reject, Run, ScheduledRun, Stage, StandingReject, State, Trigger
from apps.orchestration.proof import prove
from apps.orchestration.window import Window
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Customer, OrderItem
from apps.sources.payments.models import Payment
from tests.browser.axe import faults
from tests.browser.conftest import DESKTOP, PHONE, LogIn, OpenPage
from tests.browser.test_overview import HARM
from tests.browser.worker import worker
from tests.orchestration.conftest import schedules  # noqa: F401  fixture
from tests.orchestration.harness import ago

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
DAILY = "techmarket-etl-daily"
RUN_TIMEOUT_MS = 300_000  # other tests share the machine
LONG = "я" * 10_000


@pytest.fixture(scope="module")
def running_worker(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A worker with small slices: a run has many tasks, and there is time to cancel it."""
    with worker(tmp_path_factory.mktemp("worker") / "log", ETL_BATCH_ORDERS="20", ETL_RETRY_SECONDS="0"):
        yield


@pytest.fixture
def small_shop(transactional_db: None, schedules: None) -> None:  # noqa: F811
    cache.clear()
    shop.generate(100, 7)


def click(page: Page, name: str) -> None:
    """Click a button, or the link that looks like one."""
    page.locator("#content").get_by_role("button", name=name).or_(page.locator("#content").get_by_role("link", name=name)).first.click()


def open_run(page: Page, run: Run) -> None:
    page.goto(f"/admin/orchestration/run/{run.pk}/change/")


def wait_for_overview(page: Page, text: str) -> None:
    """Wait until the overview shows the text without a reload."""
    page.goto("/admin/")
    expect(page.locator("#now")).to_contain_text(text, timeout=RUN_TIMEOUT_MS)


# --- Runs ---


def test_preview_and_run_at_a_worker(small_shop: None, running_worker: None, page: Page, log_in: LogIn) -> None:
    """From the overview to a warehouse with the previewed changes, without a page reload."""
    api.run("full")
    changes.apply(10, 3)
    log_in(page, OPERATOR)
    page.goto("/admin/")
    click(page, "Run now")
    page.get_by_label("Reason").fill("the shop has changed")
    click(page, "Preview changes")
    expect(page.get_by_role("heading", name="Preview of changes")).to_be_visible()
    page.evaluate("window.untouched = true")
    expect(page.get_by_role("heading", name="Net revenue by month")).to_be_visible(timeout=RUN_TIMEOUT_MS)
    assert page.evaluate("window.untouched"), "the page has been reloaded"
    assert not faults(page)
    previewed = page.locator("tr", has_text="fact_sales").locator("td").all_inner_texts()[1:5]
    with page.expect_navigation():  # its message goes as soon as the worker has the run
        click(page, "Start run")
    run = Run.objects.get(rerun_of__dry_run=True)
    page.evaluate("window.untouched = true")
    expect(page.locator("#run-summary")).to_contain_text("rows written", timeout=RUN_TIMEOUT_MS)
    expect(page.locator("#run-buttons").get_by_role("link", name="Rerun")).to_be_visible()
    assert page.evaluate("window.untouched"), "the page has been reloaded"
    wait_for_overview(page, f"Run {run.pk} (incremental) succeeded")
    run.refresh_from_db()
    assert run.state == State.SUCCEEDED and run.reason == "the shop has changed" and run.worker == ""
    counts = api.row_counts(run)["fact_sales"]
    assert [str(counts[name]) for name in ("inserted", "updated", "unchanged", "deleted")] == previewed


def test_break_see_the_cause_mend_resume(small_shop: None, running_worker: None, page: Page, log_in: LogIn) -> None:
    log_in(page, OPERATOR)
    with connections["payments_db"].cursor() as cursor:
        cursor.execute("ALTER TABLE payments RENAME TO payments_away")
    try:
        page.goto("/admin/orchestration/run/start/?mode=full")
        click(page, "Start run")
        run = Run.objects.get()
        wait_for_overview(page, f"Run {run.pk} (full) failed")
    finally:
        with connections["payments_db"].cursor() as cursor:
            cursor.execute("ALTER TABLE payments_away RENAME TO payments")
    open_run(page, run)
    run.refresh_from_db()
    assert run.state == State.FAILED and "payments" in run.cause
    expect(page.locator("#content").get_by_text(run.cause).first).to_be_visible()
    click(page, "Resume")
    page.get_by_label("Reason").fill("the table is back")
    with page.expect_navigation():
        click(page, "Resume")
    wait_for_overview(page, f"Run {run.pk} (full) succeeded")
    open_run(page, run)
    assert Run.objects.get().state == State.SUCCEEDED and page.locator("#run-buttons").get_by_text("Resume").count() == 0
    page.locator("#header-inner").get_by_role("link", name="History").click()
    expect(page.get_by_text("Resumed: the table is back")).to_be_visible()


def test_cancel_a_long_run(transactional_db: None, schedules: None, running_worker: None, page: Page, log_in: LogIn) -> None:  # noqa: F811
    """A run of some hundred tasks, with one worker."""
    shop.generate(3_000, 7)
    log_in(page, OPERATOR)
    page.goto("/admin/orchestration/run/start/?mode=full")
    click(page, "Start run")
    run = Run.objects.get()
    page.goto("/admin/")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    expect(page.locator("#now").get_by_text(re.compile(r"\d+ of \d\d+ tasks done"))).to_be_visible(timeout=RUN_TIMEOUT_MS)
    open_run(page, run)
    click(page, "Cancel run")
    page.get_by_label("Reason").fill("the wrong day")
    click(page, "Cancel run")
    result = re.compile(f"Run {run.pk} stops within ten seconds|Cancelled by operator: the wrong day")
    expect(page.get_by_text(result).first).to_be_visible()
    wait_for_overview(page, f"Run {run.pk} (full) was cancelled")
    run.refresh_from_db()
    assert (run.state, run.cause) == (State.CANCELLED, "Cancelled by operator: the wrong day. Nothing was published.")
    assert run.finished_at and not run.tasks.filter(started_at__gt=run.finished_at).exists()
    assert run.tasks.filter(state=State.QUEUED).count() > run.tasks.exclude(state=State.QUEUED).count(), "most tasks were never started"


def test_several_at_once(transactional_db: None, schedules: None, page: Page, log_in: LogIn) -> None:  # noqa: F811
    runs = [Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.FAILED) for _ in range(2)]
    for run in runs:
        run.tasks.create(stage=Stage.PLAN, state=State.FAILED)
    log_in(page, OPERATOR)
    page.goto("/admin/orchestration/run/")
    for box in page.locator("input.action-select").all():
        box.check()
    page.get_by_label("Select action to run").or_(page.locator("select[name=action]")).first.select_option(label="Rerun")
    page.get_by_title("Run the selected action").click()
    expect(page.get_by_role("heading", name="Rerun")).to_be_visible()
    assert page.locator("#content li").count() == 2 and not faults(page)
    click(page, "Rerun")
    expect(page.get_by_text(re.compile(r"Run \d+( queued|: \w+)\."))).to_be_visible()  # a worker may have it by now
    expect(page.get_by_text(re.compile(r"Run \d+ was skipped: run \d+ is active\."))).to_be_visible()


# --- Rejects and schedules ---


def test_find_a_rejected_row(small_shop: None, page: Page, log_in: LogIn) -> None:
    line = OrderItem.objects.earliest("pk")
    OrderItem.objects.filter(pk=line.pk).update(quantity=0)
    assert api.run("full").state == State.SUCCEEDED
    log_in(page, OPERATOR)
    page.goto("/admin/")
    page.get_by_role("link", name=re.compile("1 open reject")).click()
    page.goto("/admin/orchestration/reject/?rule=bad_quantity&table=order_items")
    page.get_by_role("link", name=str(line.pk), exact=True).click()
    expect(page.get_by_text("quantity is not between 1 and")).to_be_visible()
    expect(page.locator("dl")).to_contain_text("unit_price")
    page.get_by_role("link", name=f"orders_db.order_items {line.pk}").click()
    expect(page).to_have_url(re.compile(f"/admin/orders_db/orderitem/{line.pk}/change/"))
    page.goto("/admin/orchestration/reject/?rule=bad_quantity")
    with page.expect_download() as started:
        click(page, "Export CSV")
    lines = started.value.path().read_text("utf-8-sig").splitlines()
    assert len(lines) == 2 and f"order_items,{line.pk},bad_quantity," in lines[1]


def test_edit_a_schedule(transactional_db: None, schedules: None, page: Page, log_in: LogIn) -> None:  # noqa: F811
    CrontabSchedule.objects.create(minute="30", hour="4", timezone="Europe/Kyiv")
    beat = PeriodicTask.objects.get(name=DAILY)
    log_in(page, ADMINISTRATOR)
    page.goto(f"/admin/django_celery_beat/periodictask/{beat.pk}/change/")
    expect(page.locator("#content ol li")).to_have_count(5)
    page.get_by_label(re.compile("Crontab Schedule")).select_option(label="every day at 04:30, Kyiv")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator("#content ol li").first).to_contain_text("04:30 Kyiv (in ")
    assert not faults(page)
    page.get_by_label("Enabled").uncheck()
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("Paused. Enable the schedule to run it again.")).to_be_visible()
    beat.refresh_from_db()
    assert (beat.enabled, beat.crontab.hour) == (False, "4")
    page.goto(f"/admin/django_celery_beat/crontabschedule/{beat.crontab_id}/change/")
    page.get_by_label(re.compile("Day.s. Of The Week")).fill("7")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("This crontab has no time in the coming year.")).to_be_visible()


@pytest.mark.once
def test_switch_of_language(small_shop: None, page: Page, log_in: LogIn) -> None:
    log_in(page, OPERATOR)
    page.goto("/admin/orchestration/run/start/?mode=full")
    page.get_by_role("button", name="Українська").click()
    expect(page.get_by_role("heading", name="Запустити зараз")).to_be_visible()
    page.get_by_label("Зміни з").fill("2024-02-01")
    page.get_by_label("По (включно)").fill("2024-02-02")
    click(page, "Почати запуск")
    expect(page.get_by_role("alert")).to_have_text("Повний запуск завантажує все. Дні або дати вказуйте лише для приростового.")
    assert not Run.objects.exists()


# --- Accessibility and hostile values ---


@pytest.mark.once  # how a page looks does not depend on the server
def test_phone_shows_titles_and_buttons_in_full(small_shop: None, open_page: OpenPage, log_in: LogIn) -> None:
    failed = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.FAILED, cause="No.")
    missed = ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=ago(hours=1), decision=Decision.HELD)
    page = open_page("uk", "light", PHONE)
    log_in(page, ADMINISTRATOR)
    page.goto(f"/admin/orchestration/scheduledrun/{missed.pk}/resolve/")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "a button is wider than the phone"
    page.goto(f"/admin/orchestration/run/{failed.pk}/change/")
    title = page.locator("#header-inner h1 a", has_text=f"Запуск {failed.pk}")
    assert title.evaluate("title => title.scrollWidth <= title.clientWidth"), "the run's number is cut off"


@pytest.mark.parametrize(("language", "theme", "width"), [("en", "light", PHONE), ("uk", "dark", DESKTOP)])
def test_pages_are_accessible(
    small_shop: None, open_page: OpenPage, log_in: LogIn, language: str, theme: str, width: dict[str, int]
) -> None:
    OrderItem.objects.filter(pk=OrderItem.objects.earliest("pk").pk).update(quantity=0)
    Payment.objects.create(order_id=999_999, amount="70.10", method="card", status="captured")
    api.run("full")
    prove(Window.everything())
    reject = StandingReject.objects.latest("pk")
    dry = api.run("full", dry_run=True)
    failed = Run.objects.create(
        mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.FAILED, cause="orders_db does not answer."
    )
    missed = ScheduledRun.objects.create(schedule_id=DAILY, scheduled_for=ago(hours=1), decision=Decision.HELD)
    page = open_page(language, theme, width)
    log_in(page, ADMINISTRATOR)
    for path in (
        "orchestration/run/start/",
        f"orchestration/run/{dry.pk}/preview/",
        f"orchestration/run/resume/?run={failed.pk}&run={dry.pk}",
        f"orchestration/run/{failed.pk}/change/",
        "orchestration/reject/",
        f"orchestration/reject/{Reject.objects.latest('pk').pk}/change/",
        "orchestration/standingreject/",
        f"orchestration/standingreject/{reject.pk}/change/",
        f"orchestration/standingreject/replay/?reject={reject.pk}",
        f"orchestration/standingreject/accept/?reject={reject.pk}",
        "orchestration/dayproof/",
        "orchestration/paymentmismatch/",
        f"orchestration/paymentmismatch/{PaymentMismatch.objects.latest('pk').pk}/change/",
        "django_celery_beat/periodictask/",
        f"django_celery_beat/periodictask/{PeriodicTask.objects.get(name=DAILY).pk}/change/",
        f"orchestration/scheduledrun/{missed.pk}/resolve/",
        f"orchestration/scheduledrun/{missed.pk}/change/",
    ):
        answer = page.goto(f"/admin/{path}")
        assert answer and answer.ok, path
        assert not faults(page), path
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} scrolls sideways"


def test_harmful_values_do_no_harm(small_shop: None, page: Page, log_in: LogIn) -> None:
    """Values in loaded and in rejected source rows. The fixture reports dialogs, errors and foreign requests."""
    for customer, name in zip(Customer.objects.order_by("pk"), HARM, strict=False):
        Customer.objects.filter(pk=customer.pk).update(first_name=name[:80], last_name=name[:80], email=f"{name[:80]}@x")
    for product, name in zip(Product.objects.order_by("pk"), HARM, strict=False):
        Product.objects.filter(pk=product.pk).update(name=name[:200])
    if connections["orders_db"].vendor == "sqlite":  # which keeps what is longer than its column
        Customer.objects.filter(pk=Customer.objects.latest("pk").pk).update(last_name=LONG)
        Product.objects.filter(pk=Product.objects.latest("pk").pk).update(name=LONG, sku=HARM[0])
    assert api.run("full").state == State.SUCCEEDED
    run = Run.objects.latest("pk")
    task = run.tasks.create(stage=Stage.TRANSFORM, subject="dim_customer", state=State.SUCCEEDED)
    rejects = [
        Reject.objects.create(
            run=run,
            task=task,
            table="customers",
            row_id=name[:40],
            rule="bad_text",
            params={"column": name, "length": "80"},
            raw={"id": name, "first_name": name * 50},
        )
        for name in (*HARM, LONG)
    ]
    log_in(page, OPERATOR)
    pages = ["orchestration/reject/", "dwh/dimcustomer/", "dwh/dimproduct/", "dwh/factsales/", "orders_db/customer/", "catalog_db/product/"]
    pages += [f"orchestration/reject/{reject.pk}/change/" for reject in rejects]
    for path in pages:
        answer = page.goto(f"/admin/{path}")
        assert answer and answer.ok, path
        assert page.locator("img[src=x], svg[onload]").count() == 0, path
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} scrolls sideways"
    page.goto(f"/admin/orchestration/reject/{rejects[0].pk}/change/")
    expect(page.get_by_text(HARM[0]).first).to_be_visible()


def test_reason_does_no_harm(small_shop: None, page: Page, log_in: LogIn) -> None:
    run = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by=HARM[0], state=State.FAILED, cause=HARM[1] * 20)
    run.tasks.create(stage=Stage.PLAN, state=State.FAILED)
    log_in(page, OPERATOR)
    for name in HARM:
        Run.objects.filter(state__in=(State.QUEUED, State.RUNNING)).update(state=State.CANCELLED, finished_at=timezone.now())
        page.goto(f"/admin/orchestration/run/rerun/?run={run.pk}")
        page.get_by_label("Reason").fill(name[:200])
        with page.expect_navigation():
            click(page, "Rerun")
    page.goto(f"/admin/orchestration/run/{run.pk}/history/")
    for name in HARM[:5]:
        expect(page.get_by_text(f"Rerun started: {name}"[:100])).to_be_visible()
    log_in(page, VIEWER)
    page.goto("/admin/orchestration/run/")
    assert page.locator("img[src=x], svg[onload]").count() == 0
