"""`manage.py report`: its numbers are the ledger's and the warehouse's, it needs no other file, and it shows no personal data."""

import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils.formats import number_format

from apps.console.overview.charts import Chart, Series
from apps.console.overview.figures import Period, figures
from apps.console.report.svg import draw_chart
from apps.console.templatetags.report import instant
from apps.etl.transform.rules import render_label
from apps.orchestration import api
from apps.orchestration.models import CauseKind, Mode, Reject, Run, State, Trigger
from apps.orchestration.results import document
from apps.orchestration.window import today
from apps.sources.orders.models import Customer, OrderItem
from apps.warehouse.dimensions import DimRegion
from apps.warehouse.facts import FactSales
from apps.warehouse.kpis import read_totals
from apps.warehouse.loads import Load
from apps.warehouse.report import build_report
from techmarket.commands import ExitCode
from techmarket.formats import localize_count, localize_rounded_uah, localize_uah
from tests.browser.chromium import find_chromium
from tests.servers import need

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
WriteReport = Callable[..., str]


@pytest.fixture
def write_report(tmp_path: Path) -> WriteReport:
    """Return a function that runs the command and returns the page that it wrote."""

    def write_page(*arguments: str) -> str:
        call_command("report", *arguments, "--out", str(tmp_path / "report.html"), "-v", "0")
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write_page


def page_text(page: str) -> str:
    return " ".join(unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)).split())


def run_refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        call_command("report", *arguments)
    text = capsys.readouterr()
    assert text.out == "" and text.err.count("\n") == 1
    return int(str(stopped.value.code)), text.err


def test_numbers_match_ledger_and_warehouse(loaded_run: Run, write_report: WriteReport) -> None:
    text, result = page_text(write_report()), document(loaded_run)
    assert text.startswith(f"TechMarket: Run {loaded_run.pk}") and "Succeeded" in text and str(loaded_run.uuid) in text
    for table, counts in result["tables"].items():
        cells = (counts["read"], counts["inserted"] + counts["updated"] + counts["unchanged"])
        row = [*cells, *(counts[name] for name in ("inserted", "updated", "unchanged", "deleted", "derived", "filtered", "rejected")), 0]
        assert f"{table} {' '.join(map(localize_count, row))} " in text
    for table, counts in result["sources"].items():
        assert f"{table} {' '.join(localize_count(counts[name]) for name in ('read', 'loaded', 'filtered', 'rejected'))} 0" in text
    assert text.count(" passed") >= len(result["checks"]) == loaded_run.checks.count() > 40
    found = read_totals()
    lines = localize_count(FactSales.objects.count())
    net, paid = (str(number_format(amount, 2, force_grouping=True)) for amount in (found.net, found.paid))
    for name, amount in (("order lines", lines), ("net revenue, UAH", net), ("paid, UAH", paid)):
        assert f"{name} {amount} {amount} passed" in text
    for number in (
        localize_rounded_uah(found.net),
        localize_count(found.orders),
        localize_uah(found.average_order),
        localize_uah(found.margin),
    ):
        assert number in text
    for reject in result["rejects"]:
        assert f"{reject['table']} {render_label(reject['rule'])} {reject['reason']} {reject['rows']}" in text


def test_page_has_no_script_and_no_external_file(loaded_run: Run, write_report: WriteReport) -> None:
    DimRegion.objects.filter(pk__gt=0).update(name="<script>alert(1)</script>")
    page = write_report()
    assert "alert(1)" in page and "<script" not in page
    assert not re.search(r"(?:src|href|action)\s*=|url\(|@import|<link|<iframe|https?://(?!www\.w3\.org)", page)


def test_page_names_no_customer(loaded_run: Run, write_report: WriteReport) -> None:
    customer = Customer.objects.earliest("pk")
    task = loaded_run.tasks.earliest("pk")
    raw = {"id": str(customer.pk), "first_name": customer.first_name, "email": customer.email, "region_id": "3"}
    Reject.objects.create(run=loaded_run, task=task, table="customers", row_id=str(customer.pk), rule="bad_text", raw=raw)
    Reject.objects.create(run=loaded_run, task=task, table="returns", row_id="1", rule="bad_text", raw={"note": "call Petro"})
    text = page_text(write_report())
    assert "region_id 3" in text and "first_name •••" in text and "note •••" in text
    assert customer.email not in text and customer.first_name not in text and "Petro" not in text


def test_managers_are_numbers_in_a_report(loaded_run: Run, write_report: WriteReport) -> None:
    sellers = {fact.employee for fact in FactSales.objects.filter(employee__gt=0).select_related("employee")}
    text = page_text(write_report())
    assert sellers and all(f"Employee {seller.pk}" in text and str(seller) not in text for seller in sellers)


def test_period_sums_published_runs_and_lists_the_others(loaded_run: Run, write_report: WriteReport) -> None:
    OrderItem.objects.filter(pk=OrderItem.objects.latest("pk").pk).update(quantity=7)
    second = api.run("full")
    cause = "The source orders_db does not answer."
    failed = Run.objects.create(
        mode=Mode.FULL, trigger=Trigger.SCHEDULE, requested_by="beat", state=State.FAILED, cause=cause, cause_kind=CauseKind.MACHINE
    )
    dry = api.run("full", dry_run=True)
    first_day = date(2024, 1, 1)
    text = page_text(write_report("--from", "2024-01-01"))
    rows = [
        sum(api.row_counts(run)["fact_sales"][name] for run in (loaded_run, second)) for name in ("read", "loaded", "inserted", "updated")
    ]
    assert f"fact_sales {' '.join(map(localize_count, rows))} " in text and rows[3] == 1
    for run in (loaded_run, second, failed):
        assert f" {run.pk} {instant(run.created_at)}" in text
    assert cause in text and f" {dry.pk} {instant(dry.created_at)}" not in text, "a dry run is not listed"
    assert text.index(f"{loaded_run.pk} order lines") < text.index(f"{second.pk} order lines")
    found = read_totals(first_day, today())
    assert localize_rounded_uah(found.net) in text and localize_count(found.orders) in text


def test_period_that_nobody_checked_certifies_nothing(transactional_db: None, write_report: WriteReport) -> None:
    text = page_text(write_report("--from", "2024-01-01", "--to", "2024-01-02"))
    assert "No run wrote sales of this period." in text and "Not checked: no run wrote sales of this period." in text
    assert "All passed" not in text and "signature" not in text and "Nothing has been loaded into the warehouse." in text


def test_run_that_published_nothing_proves_nothing_of_a_period(loaded_run: Run, write_report: WriteReport) -> None:
    Load.objects.filter(run_uuid=loaded_run.uuid).update(published_at=loaded_run.created_at - timedelta(minutes=1))
    Run.objects.filter(pk=loaded_run.pk).update(state=State.FAILED)
    text = page_text(write_report("--from", "2020-01-01", "--to", "2020-01-31"))
    assert f" {loaded_run.pk} {instant(loaded_run.created_at)}" in text, "it has failed since the last load"
    assert "No row counts." in text and "No reconciliation ran." in text and "There are no sales" in text
    assert "Rejected rows Not checked." in text and "signature" not in text


def test_run_that_checked_nothing_says_so(transactional_db: None, write_report: WriteReport) -> None:
    Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.FAILED, cause="No.")
    text = page_text(write_report())
    assert "Rows rejected – Checks No checks ran." in text and "Rejected rows Not checked." in text and "0 of 0" not in text


def test_period_names_the_runs_that_wrote_its_sales_and_what_was_not_checked(
    loaded_run: Run, write_report: WriteReport, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = FactSales.objects.earliest("date").date_id
    first = date(key // 10_000, key // 100 % 100, key % 100)
    failed = Run.objects.create(mode=Mode.FULL, trigger=Trigger.CLI, requested_by="x", state=State.FAILED, cause="No.")
    text = page_text(write_report("--from", f"{first}", "--to", f"{first}"))
    assert f" {loaded_run.pk} {instant(loaded_run.created_at)}" in text, "no run was requested on that day"
    assert "Not compared with the sources: 1 of 1 days" in text and f"Unsuccessful since the last load: runs {failed.pk}." in text
    assert "Open rejects, of any day: 1." in text
    capsys.readouterr()
    call_command("report", "--from", f"{first}", "--to", f"{first}", "--out", str(tmp_path / "paper.html"))
    assert "Not compared with the sources: 1 of 1 days" in capsys.readouterr().err
    assert "The period is not over" in page_text(write_report("--from", f"{first}", "--to", today().isoformat()))


def test_month_of_sales(loaded_run: Run, write_report: WriteReport) -> None:
    key = FactSales.objects.filter(date__gt=0).latest("date").date_id
    start, end = date(key // 10_000, key // 100 % 100, 1), date(key // 10_000, key // 100 % 100, key % 100)
    text = page_text(write_report("--from", start.isoformat(), "--to", end.isoformat()))
    assert localize_uah(read_totals(start, end).average_order) in text
    assert localize_uah(read_totals().average_order) not in text


def test_more_rejects_than_fit_are_counted(loaded_run: Run, write_report: WriteReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.console.report.evidence.MAX_REJECTS", 2)
    task = loaded_run.tasks.earliest("pk")
    rows = [Reject(run=loaded_run, task=task, table="orders", row_id=f"{at}", rule="bad_date", raw={"id": f"{at}"}) for at in range(9)]
    Reject.objects.bulk_create(rows)
    text = page_text(write_report())
    assert "orders Invalid date bad_date 9" in text and f"{Reject.objects.count() - 2} more rows are in the ledger." in text


def test_deleted_details_are_reported_as_such(loaded_run: Run, write_report: WriteReport) -> None:
    assert "have been deleted" not in page_text(write_report())
    loaded_run.tasks.all().delete()
    text = page_text(write_report())
    assert "The details of 1 run have been deleted: its rows, checks and rejected rows are not in this report." in text
    assert "No row counts." in text and "No reconciliation ran." in text


def test_page_in_ukrainian(loaded_run: Run, write_report: WriteReport) -> None:
    page = write_report("--language", "uk")
    text = page_text(page)
    assert '<html lang="uk">' in page and f"Запуск {loaded_run.pk}" in text and "Звірка" in text and "Виручка й маржа за місяцями" in text
    assert not re.search(r"\b(Reconciliation|Rejected|passed|Revenue|order lines|accepted of)\b", text)


BAD: list[tuple[list[str], ExitCode, str]] = [
    (["--run", "99999"], ExitCode.USAGE, "There is no run 99999."),
    (["--run", "0"], ExitCode.USAGE, "whole number"),
    (["--run", "1", "--from", "2024-01-01"], ExitCode.USAGE, "either a run"),
    (["--to", "2024-01-01"], ExitCode.USAGE, "--to needs --from"),
    (["--from", "2024-02-30"], ExitCode.USAGE, "no day 2024-02-30"),
    (["--from", "2024-02-01", "--to", "2024-01-01"], ExitCode.USAGE, "before the start"),
    (["--from", "2999-01-01"], ExitCode.USAGE, "in the future"),
    (["--language", "fr"], ExitCode.USAGE, "invalid choice"),
    (["--out", "/nowhere/report.html"], ExitCode.FAILED, "No such file or directory. Choose another file with --out."),
    (["--out", "/"], ExitCode.FAILED, "cannot be written"),
]


def test_invalid_options_give_one_line(loaded_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, words in BAD:
        answer = run_refused(capsys, *arguments)
        assert answer[0] == code and words in answer[1], (arguments, answer)
    dry = api.run("full", dry_run=True)
    assert "dry run" in run_refused(capsys, "--run", str(dry.pk))[1]


def test_before_the_first_run(transactional_db: None, capsys: pytest.CaptureFixture[str], write_report: WriteReport) -> None:
    assert run_refused(capsys) == (ExitCode.USAGE, "No run has ended yet. Start one with `manage.py run_etl`.\n")
    assert "There are no sales in this period." in page_text(write_report("--from", "2024-01-01"))


# --- PDF ---


def test_pdf_holds_the_page(loaded_run: Run, tmp_path: Path, settings: Any) -> None:
    settings.CHROMIUM = str(need(find_chromium, "Chromium", "CHROMIUM", "chromium"))
    call_command("report", "--out", str(tmp_path / "report.pdf"), "-v", "0")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-") and content.rstrip().endswith(b"%%EOF") and len(content) > 50_000
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True).stdout
        net = localize_rounded_uah(read_totals().net).split()[0]
        assert f"Run {loaded_run.pk}" in text and str(loaded_run.uuid) in text and net in text and re.search(r"\b1 ?/ ?\d", text)


def test_missing_chromium_gives_one_line_with_the_next_step(
    loaded_run: Run, capsys: pytest.CaptureFixture[str], settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings.CHROMIUM = str(tmp_path / "none")
    assert run_refused(capsys, "--pdf") == (
        ExitCode.CONFIGURATION,
        f"{tmp_path}/none cannot be started: No such file or directory. Set CHROMIUM to the path of Chromium.\n",
    )
    settings.CHROMIUM = "/bin/false"
    assert run_refused(capsys, "--pdf") == (
        ExitCode.FAILED,
        "/bin/false wrote no PDF: no error output. Set CHROMIUM to the path of a Chromium that can print.\n",
    )
    settings.CHROMIUM = ""
    monkeypatch.setenv("PATH", str(tmp_path))
    code, text = run_refused(capsys, "--pdf")
    assert code == ExitCode.CONFIGURATION and "needs Chromium" in text and "--pdf" in text
    assert not list(tmp_path.glob("*.pdf"))
    call_command("report")
    assert [file.name for file in tmp_path.iterdir()] == [f"techmarket-run-{loaded_run.pk}.html"]


def test_charts_of_empty_and_negative_values(loaded_run: Run) -> None:
    """A month with more cost than revenue, a single month, and no sale at all."""
    FactSales.objects.filter(pk__gt=FactSales.objects.earliest("pk").pk).delete()
    FactSales.objects.update(net_amount=-100, margin_amount=-50)
    for start in (None, date(2015, 1, 1)):
        end = start
        for figure in figures(build_report(start, end), Period(start, end), names_people=False):
            assert draw_chart(figure.chart).startswith("<svg")


def test_line_of_a_single_month_is_visible() -> None:
    """A polyline of one point draws nothing."""
    drawn = draw_chart(Chart("line", ["Nov 2025"], [Series("Revenue, UAH", [5])]))
    points = re.findall(r'<polyline points="([^"]+)"', drawn)
    assert [len(each.split()) for each in points] == [2]
