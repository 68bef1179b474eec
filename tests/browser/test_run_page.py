"""The run list and the page of a run in a browser: live progress, both themes, and hostile values."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from apps.console.groups import OPERATOR, VIEWER
from apps.demo import faults, shop
from apps.orchestration import api
from apps.orchestration.models import CheckResult, Mode, Reject, RowCount, Run, Stage, State, Task, Trigger
from tests.browser.axe import faults as page_faults
from tests.browser.conftest import DESKTOP, PHONE, LogIn, OpenPage
from tests.browser.test_overview import HARM
from tests.orchestration.harness import count_tasks

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
LIST = "/admin/orchestration/run/"


def address(run: Run) -> str:
    return f"{LIST}{run.pk}/change/"


@pytest.fixture
def half_done(transactional_db: None) -> Run:
    """A running run with half of its 30 tasks done, and 40 checks, so that their table scrolls."""
    began = timezone.now() - timedelta(seconds=90)
    run = Run.objects.create(
        mode=Mode.FULL, trigger=Trigger.CLI, requested_by="olena", state=State.RUNNING, created_at=began, started_at=began
    )
    for number in range(30):
        state, ended = (State.SUCCEEDED, began + timedelta(seconds=3 * number + 2)) if number < 15 else (State.QUEUED, None)
        started = began + timedelta(seconds=3 * number) if ended else None
        Task.objects.create(
            run=run, stage=Stage.EXTRACT, subject="fact_sales", low=number, state=state, started_at=started, finished_at=ended, attempt=1
        )
    count_tasks(run)
    task = run.tasks.earliest("pk")
    RowCount.objects.create(run=run, task=task, table="fact_sales", read=7, loaded=7, inserted=7)
    for number in range(40):
        CheckResult.objects.create(
            run=run, task=task, name=f"check {number}", table="fact_sales", passed=True, blocking=True, expected="0", observed="0"
        )
    return run


def test_a_run_is_followed_to_its_end_without_reloading(half_done: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, VIEWER)
    page.goto(address(half_done))
    page.evaluate("window.untouched = true")
    status, bar = page.get_by_role("status"), page.get_by_role("progressbar", name="Progress")
    expect(status).to_contain_text("15 of 30 tasks done")
    expect(bar).to_have_attribute("value", "50")
    checks, link = page.get_by_role("region", name="Checks"), page.get_by_role("link", name="fact_sales", exact=True)
    checks.evaluate("region => region.scrollTop = 200")
    link.focus()
    page.evaluate("window.scrollTo(0, 300)")
    stood = page.evaluate("[window.scrollY, document.querySelector('#run-checks').scrollTop]")
    half_done.tasks.update(state=State.SUCCEEDED, started_at=half_done.started_at, finished_at=timezone.now())
    count_tasks(half_done)
    expect(status).to_contain_text("30 of 30 tasks done")
    expect(link).to_be_focused()
    assert page.evaluate("[window.scrollY, document.querySelector('#run-checks').scrollTop]") == stood == [300, 200]
    Run.objects.filter(pk=half_done.pk).update(state=State.SUCCEEDED, finished_at=timezone.now())
    expect(page.get_by_text("Succeeded", exact=True).first).to_be_visible()
    expect(status).to_contain_text("7 rows written")
    expect(page.get_by_text("No earlier run of this mode succeeded.")).to_be_visible()
    expect(link).to_be_focused()
    assert page.evaluate("window.untouched"), "the page has been reloaded"
    assert page.locator("#run-poll[hx-trigger]").count() == 0, "the page polls no longer"


def test_queued_does_not_stay_above_a_run_that_has_failed(page: Page, log_in: LogIn, transactional_db: None) -> None:
    """The message goes without reloading the page, once the run has left the state that it names."""
    log_in(page, OPERATOR)
    page.goto(f"{LIST}start/")
    page.get_by_role("button", name="Start run").click()
    expect(page.get_by_text(re.compile(r"Run \d+ queued\."))).to_be_visible()
    Run.objects.update(state=State.FAILED, started_at=timezone.now(), finished_at=timezone.now())
    expect(page.locator("#run-state")).to_contain_text("failed", ignore_case=True)
    expect(page.get_by_text(re.compile(r"Run \d+ queued\."))).to_have_count(0)


def test_a_session_that_has_ended_leads_to_the_login(half_done: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, VIEWER)
    page.goto(address(half_done))
    page.context.clear_cookies()
    expect(page).to_have_url(re.compile("/admin/login/"))


@pytest.mark.once  # how a page looks does not depend on the server
@pytest.mark.parametrize(("language", "theme", "width"), [("en", "light", DESKTOP), ("uk", "dark", PHONE)])
def test_language_theme_and_width(
    transactional_db: None, open_page: OpenPage, log_in: LogIn, language: str, theme: str, width: dict[str, int]
) -> None:
    """The list and the pages of a successful, a dry and a skipped run, of a shop with every kind of fault."""
    shop.generate(200, 7)
    faults.plant()
    runs = [api.run("full"), api.run("full", dry_run=True)]
    runs.append(
        Run.objects.create(mode=Mode.FULL, trigger=Trigger.API, requested_by="x", state=State.SKIPPED, cause="Skipped.", overlaps=runs[0])
    )
    page = open_page(language, theme, width)
    log_in(page, VIEWER)
    for path in (LIST, *map(address, runs)):
        page.goto(path)
        expect(page.locator("html")).to_have_attribute("lang", language)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} scrolls sideways"
        assert not page_faults(page), path
    page.goto(address(runs[0]))
    title = "Timeline" if language == "en" else "Часова шкала"
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    assert page.locator("[role=region]").count() == page.locator("[role=region][tabindex='0']").count() >= 5, (
        "the keyboard reaches every region that scrolls"
    )


def test_harmful_values_do_no_harm(half_done: Run, page: Page, log_in: LogIn) -> None:
    """Values that a source, a person or a worker may put into the ledger. The fixture reports dialogs, errors and foreign requests."""
    task = half_done.tasks.earliest("pk")
    for harm in HARM:
        short = harm[:40]
        Reject.objects.create(
            run=half_done, task=task, table=short, row_id=short, rule="missing_value", params={"column": harm}, raw={"name": harm}
        )
        CheckResult.objects.create(
            run=half_done, task=task, name=harm[:80], table=short, passed=False, blocking=True, expected=harm, observed=harm
        )
        Task.objects.create(run=half_done, stage=Stage.LOAD, subject=short, state=State.FAILED, worker=harm[:120], cause=harm)
    RowCount.objects.create(run=half_done, task=half_done.tasks.latest("pk"), table=HARM[1][:40], read=len(HARM), rejected=len(HARM))
    text = " ".join(HARM)
    fields = {"cause": text * 20, "reason": text[:255], "requested_by": text[:150], "worker": text[:120], "code_version": text[:40]}
    Run.objects.filter(pk=half_done.pk).update(state=State.FAILED, cause_kind="data", finished_at=timezone.now(), **fields)
    log_in(page, VIEWER)
    for path in (address(half_done), LIST, f"{LIST}?q=%3Cscript%3Ealert(5)%3C/script%3E&state__exact=%22%3E%3Cimg%20src%3Dx%3E"):
        page.goto(path)
        page.wait_for_load_state("load")
        assert page.locator("img[src=x], svg[onload]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.goto(address(half_done))
    for harm in HARM[:5]:
        expect(page.get_by_text(harm[:40]).first).to_be_attached()
