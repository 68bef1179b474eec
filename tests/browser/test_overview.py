"""The overview in a browser: both languages and themes, filters, live progress, and hostile names."""

import re

import pytest
from django.core.cache import cache
from playwright.sync_api import Page, expect

from apps.console.groups import OPERATOR, VIEWER
from apps.demo import shop
from apps.orchestration import api
from apps.orchestration.models import Mode, Run, Stage, State, Task, Trigger
from apps.sources.catalog.models import Product
from apps.sources.orders.models import Employee, Region
from apps.warehouse.dimensions import DimProduct
from tests.browser.axe import faults
from tests.browser.conftest import DESKTOP, PHONE, LogIn, OpenPage
from tests.orchestration.conftest import schedules  # noqa: F401  fixture
from tests.orchestration.harness import count_tasks

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
HARM = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "'; DROP TABLE fact_sales; --",
    "</canvas><svg onload=alert(3)>",
    "{{ 7*7 }}{% debug %}",
    '=HYPERLINK("http://evil.example","x")',
    "\u202egnp.eciovni\u202c",
    "&lt;b&gt;&quot;&#39;",
    "javascript:alert(4)//\\u0022",
    "Ї" * 200,
]


@pytest.fixture
def loaded_run(transactional_db: None, schedules: None) -> Run:  # noqa: F811
    cache.clear()
    shop.generate(200, 7)
    return api.run("full")


@pytest.mark.once  # how a page looks does not depend on the server
@pytest.mark.parametrize(("language", "theme", "width"), [("en", "light", DESKTOP), ("uk", "dark", PHONE)])
def test_language_theme_and_width(
    loaded_run: Run, open_page: OpenPage, log_in: LogIn, language: str, theme: str, width: dict[str, int]
) -> None:
    page = open_page(language, theme, width)
    log_in(page, VIEWER)
    page.goto("/admin/")
    title, fresh = ("Overview", "On schedule") if language == "en" else ("Огляд", "За розкладом")
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(page.locator("#now").get_by_text(fresh)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == language
    assert page.evaluate("document.documentElement.classList.contains('dark')") == (theme == "dark")
    assert page.locator("canvas.chart").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page scrolls sideways"
    assert not faults(page)


@pytest.mark.once
def test_switch_of_language(loaded_run: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, VIEWER)
    page.goto("/admin/?start=&end=&region=KV")
    page.get_by_role("button", name="Українська").click()
    expect(page.get_by_role("heading", name="Виручка й маржа за місяцями")).to_be_visible()
    assert page.url.endswith("/admin/?start=&end=&region=KV"), "the page and its filters stay"
    expect(page.get_by_text(re.compile(r"\d[\s\u00a0]\d{3} грн")).first).to_be_visible()
    page.goto("/admin/dwh/factsales/")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("columnheader", name="Payment method")).to_be_visible()
    page.goto("/admin/")
    expect(page.get_by_role("heading", name="Revenue and margin by month")).to_be_visible()


def test_filters(loaded_run: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, VIEWER)
    page.goto("/admin/")
    page.get_by_label("From", exact=True).fill("2025-01-01")
    page.get_by_label("To (inclusive)").fill("2025-03-31")
    page.get_by_label("Region", exact=True).select_option("KV")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile(r"start=2025-01-01&end=2025-03-31&region=KV"))
    figure = page.locator("details", has=page.get_by_role("columnheader", name="Month", include_hidden=True))
    figure.get_by_text("Show table").click()
    expect(figure.get_by_role("rowheader")).to_have_text(["Jan 2025", "Feb 2025", "Mar 2025"])
    figure.get_by_role("link", name="Feb 2025").click()
    expect(page).to_have_url(re.compile(r"date__gte=20250201&date__lte=20250228&region__exact=\d+"))
    page.goto("/admin/?start=2025-03-01&end=2025-01-01")
    expect(page.get_by_role("alert")).to_have_text("The end date is before the start date.")


def test_progress_without_reloading(loaded_run: Run, page: Page, log_in: LogIn) -> None:
    log_in(page, OPERATOR)
    run = Run.objects.create(mode=Mode.INCREMENTAL, trigger=Trigger.CLI, requested_by="x", state=State.RUNNING)
    tasks = [Task.objects.create(run=run, stage=Stage.EXTRACT, subject="dim_region") for _ in range(4)]
    count_tasks(run)
    page.goto("/admin/")
    page.evaluate("window.untouched = true")
    bar = page.get_by_role("progressbar", name="Progress")
    expect(bar).to_have_attribute("value", "0")
    Task.objects.filter(pk__in=[task.pk for task in tasks[:3]]).update(state=State.SUCCEEDED)
    count_tasks(run)
    expect(bar).to_have_attribute("value", "75")
    Run.objects.filter(pk=run.pk).update(state=State.CANCELLED)
    expect(bar).to_have_count(0)
    assert page.evaluate("window.untouched"), "the page has been reloaded"


def test_harmful_names_do_no_harm(transactional_db: None, schedules: None, page: Page, log_in: LogIn) -> None:  # noqa: F811
    """Names of products, regions and employees, drawn and listed. The fixture reports dialogs, errors and foreign requests."""
    cache.clear()
    shop.generate(200, 7)
    for product, name in zip(Product.objects.order_by("pk"), HARM, strict=False):
        Product.objects.filter(pk=product.pk).update(name=name)
    for model, column in ((Region, "name"), (Employee, "last_name")):
        for row, name in zip(model.objects.order_by("pk"), HARM, strict=False):
            model.objects.filter(pk=row.pk).update(**{column: name[:80]})
    assert api.run("full").state == "succeeded"
    DimProduct.objects.filter(name=HARM[-1]).update(name="Є" * 200)
    log_in(page, VIEWER)
    page.goto("/admin/?start=&end=")
    page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    for name in HARM[:5]:
        expect(page.get_by_text(name[:79]).first).to_be_attached()
    assert page.locator("img[src=x], svg[onload]").count() == 0 and "49" not in page.get_by_text("{{ 7*7 }}").first.inner_text()
    page.goto("/admin/?region=%3Cscript%3Ealert(5)%3C/script%3E&start=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(6)%3E")
    expect(page.get_by_role("alert").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.once
def test_login_and_lists_are_accessible(loaded_run: Run, page: Page, log_in: LogIn) -> None:
    page.goto("/admin/login/")
    assert not faults(page)
    log_in(page, OPERATOR)
    page.goto("/admin/dwh/factsales/")
    assert not faults(page)
    page.evaluate("document.getElementById('content').append(document.createElement('select'))")
    assert [fault.split()[0] for fault in faults(page)] == ["select-name"], "axe finds a planted fault"
