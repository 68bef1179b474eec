"""Output of `manage.py run_etl`: the ledger, checks, rejects, dry runs, JSON, and runs in the background."""

import json
from typing import Any

import pytest
from django.core.management import call_command

from apps.demo import changes, faults, shop
from apps.orchestration.models import Run, State
from techmarket.commands import ExitCode

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


@pytest.fixture
def small_shop(transactional_db: None) -> None:
    shop.generate(60, 3)


def run_etl(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = ExitCode.DONE) -> str:
    """Run the command, check its exit code and return its stdout."""
    try:
        call_command("run_etl", *arguments)
        exit_code = 0
    except SystemExit as error:
        exit_code = int(error.code or 0)
    out, err = capsys.readouterr()
    assert exit_code == code, err
    return out


def test_ledger_and_rejects_are_printed(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    faults.plant()
    output = run_etl(capsys, "--mode", "full")
    for text in (
        ": full",
        "fact_sales",
        "orders (lookup)",
        "Quantity out of range",
        "quantity is not between 1 and 2147483647",
        "valid e-mail",
        "succeeded",
    ):
        assert text in output, text


def test_dry_run_shows_the_months_that_would_change(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert "net then, UAH" in run_etl(capsys, "--mode", "full", "--dry-run")
    run_etl(capsys, "--mode", "full")
    assert "Net revenue would stay as it is in every month." in run_etl(capsys, "--mode", "full", "--dry-run")
    changes.apply(12, 3)
    output = run_etl(capsys, "--dry-run")
    assert "(dry run), changes from" in output and "rows would be written; the warehouse is as it was." in output


def test_json_is_one_document(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(run_etl(capsys, "--mode", "full", "--json"))
    assert document["status"] == "succeeded" and document["tables"]["fact_sales"]["rejected"] == 0
    assert run_etl(capsys, "--quiet") == ""


def test_run_in_the_background_is_cancelled(small_shop: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.orchestration.worker.delivery.send_message", lambda *message: None)
    number = run_etl(capsys, "--mode", "full", "--no-wait").strip()
    assert Run.objects.get(pk=number).state == State.QUEUED
    run_etl(capsys, "--mode", "full", code=ExitCode.SKIPPED)
    assert run_etl(capsys, "--cancel", number, "--reason", "wrong day") == f"Run {number} is cancelled.\n"
    run = Run.objects.get(pk=number)
    assert run.state == State.CANCELLED and "wrong day" in run.cause
    run_etl(capsys, "--cancel", number, code=ExitCode.USAGE)


def test_migrate_all_reports_nothing_to_do(transactional_db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("migrate_all")
    assert capsys.readouterr().out.count("nothing to do") == 6
