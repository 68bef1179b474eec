"""The run list and a run's page in a browser: live updates to the end, both themes, and harmful values."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from apps.console.groups import VIEWER
from apps.demo import faults, shop
from apps.orchestration import api
from apps.orchestration.models import CheckResult, Mode, Reject, RowCount, Run, Stage, State, Task, Trigger
from tests.browser.axe import find_violations
from tests.browser.conftest import DESKTOP, PHONE, LogIn, OpenPage
from tests.browser.test_overview import HARMFUL_TEXTS

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIST = "/admin/orchestration/run/"


def run_path(run: Run) -> str:
    return f"{LIST}{run.pk}/change/"


@pytest.fixture
def active_run(transactional_db: None) -> Run:
    """Create an active run with 40 checks, so that their table scrolls, and 15 of 30 tasks done."""
    start = timezone.now() - timedelta(seconds=90)
    run = Run.objects.create(
        mode=Mode.FULL, trigger=Trigger.CLI, requested_by="olena", state=State.RUNNING, created_at=start, started_at=start
    )
    for number in range(30):
        state, end = (State.SUCCEEDED, start + timedelta(seconds=3 * number + 2)) if number < 15 else (State.QUEUED, None)
        started = start + timedelta(seconds=3 * number) if end else None
        Task.objects.create(
            run=run, stage=Stage.EXTRACT, subject="fact_sales", low=number, state=state, started_at=started, finished_at=end, attempt=1
        )
    task = run.tasks.earliest("pk")
    RowCount.objects.create(run=run, task=task, table="fact_sales", read=7, loaded=7, inserted=7)
    for number in range(40):
        CheckResult.objects.create(
            run=run, task=task, name=f"check {number}", table="fact_sales", passed=True, blocking=True, expected="0", observed="0"
        )
    return run


def test_run_page_is_updated_until_the_end_without_reloading(active_run: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, VIEWER)
    page.goto(run_path(active_run))
    page.evaluate("window.untouched = true")
    status, bar = page.get_by_role("status"), page.get_by_role("progressbar", name="Progress")
    expect(status).to_contain_text("15 of 30 tasks done")
    expect(bar).to_have_attribute("value", "50")
    checks, link = page.get_by_role("region", name="Checks"), page.get_by_role("link", name="fact_sales", exact=True)
    checks.evaluate("region => region.scrollTop = 200")
    link.focus()
    page.evaluate("window.scrollTo(0, 300)")
    scroll_positions = page.evaluate("[window.scrollY, document.querySelector('#run-checks').scrollTop]")
    active_run.tasks.update(state=State.SUCCEEDED, started_at=active_run.started_at, finished_at=timezone.now())
    expect(status).to_contain_text("30 of 30 tasks done")
    expect(link).to_be_focused()
    assert page.evaluate("[window.scrollY, document.querySelector('#run-checks').scrollTop]") == scroll_positions == [300, 200]
    Run.objects.filter(pk=active_run.pk).update(state=State.SUCCEEDED, finished_at=timezone.now())
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()
    expect(status).to_contain_text("7 rows written")
    expect(page.get_by_text("No run of this mode has succeeded before it.")).to_be_visible()
    expect(link).to_be_focused()
    assert page.evaluate("window.untouched"), "the page was not reloaded"
    assert page.locator("#run-poll[hx-trigger]").count() == 0, "polling has stopped"


def test_ended_session_leads_to_the_login(active_run: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, VIEWER)
    page.goto(run_path(active_run))
    page.context.clear_cookies()
    expect(page).to_have_url(re.compile("/admin/login/"))


@pytest.mark.parametrize(("language", "theme", "width"), [("en", "light", DESKTOP), ("uk", "dark", PHONE)])
def test_pages_in_each_language_theme_and_width(
    transactional_db: None, open_page: OpenPage, log_in: LogIn, language: str, theme: str, width: dict[str, int]
) -> None:
    """For a shop with every kind of fault: a successful, a dry and a skipped run."""
    shop.generate(200, 7)
    faults.plant()
    runs = [api.run("full"), api.run("full", dry_run=True)]
    runs.append(
        Run.objects.create(mode=Mode.FULL, trigger=Trigger.API, requested_by="x", state=State.SKIPPED, cause="Skipped.", overlaps=runs[0])
    )
    page = open_page(language, theme, width)
    log_in(page, VIEWER)
    for path in (LIST, *map(run_path, runs)):
        page.goto(path)
        expect(page.locator("html")).to_have_attribute("lang", language)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path}: no horizontal scrolling"
        assert not find_violations(page), path
    page.goto(run_path(runs[0]))
    title = "Timeline" if language == "en" else "Перебіг у часі"
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    assert page.locator("[role=region]").count() == page.locator("[role=region][tabindex='0']").count() >= 5, (
        "scrollable regions can be focused"
    )


def test_harmful_values_are_shown_as_text(active_run: Run, page: Page, log_in: LogIn) -> None:
    """In all that a source, user or worker can write to the ledger. The fixture fails on dialogs, errors and foreign requests."""
    task = active_run.tasks.earliest("pk")
    for harmful in HARMFUL_TEXTS:
        short = harmful[:40]
        Reject.objects.create(
            run=active_run, task=task, table=short, row_id=short, rule="missing_value", params={"column": harmful}, raw={"name": harmful}
        )
        CheckResult.objects.create(
            run=active_run, task=task, name=harmful[:80], table=short, passed=False, blocking=True, expected=harmful, observed=harmful
        )
        Task.objects.create(run=active_run, stage=Stage.LOAD, subject=short, state=State.FAILED, worker=harmful[:120], cause=harmful)
    RowCount.objects.create(
        run=active_run,
        task=active_run.tasks.latest("pk"),
        table=HARMFUL_TEXTS[1][:40],
        read=len(HARMFUL_TEXTS),
        rejected=len(HARMFUL_TEXTS),
    )
    text = " ".join(HARMFUL_TEXTS)
    fields = {"cause": text * 20, "reason": text[:255], "requested_by": text[:150], "worker": text[:120], "code_version": text[:40]}
    Run.objects.filter(pk=active_run.pk).update(state=State.FAILED, cause_kind="data", finished_at=timezone.now(), **fields)
    log_in(page, VIEWER)
    for path in (run_path(active_run), LIST, f"{LIST}?q=%3Cscript%3Ealert(5)%3C/script%3E&state__exact=%22%3E%3Cimg%20src%3Dx%3E"):
        page.goto(path)
        page.wait_for_load_state("load")
        assert page.locator("img[src=x], svg[onload]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.goto(run_path(active_run))
    for harmful in HARMFUL_TEXTS[:5]:
        expect(page.get_by_text(harmful[:40]).first).to_be_attached()
