"""The command as a person sees it: the ledger, the checks, the rejects, what a dry run would change, and runs at the workers."""

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


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = ExitCode.DONE) -> str:
    """What the command prints on stdout; its exit code must be `code`."""
    try:
        call_command("run_etl", *arguments)
        ended = 0
    except SystemExit as error:
        ended = int(error.code or 0)
    out, err = capsys.readouterr()
    assert ended == code, err
    return out


def test_ledger_and_rejects(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    faults.plant()
    words = said(capsys, "--mode", "full")
    for shown in (
        ": full",
        "fact_sales",
        "orders (lookup)",
        "Quantity out of range",
        "quantity is not between 1 and 2147483647",
        "valid e-mail",
        "succeeded",
    ):
        assert shown in words, shown


def test_dry_run_shows_the_months_that_would_move(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert "net then, UAH" in said(capsys, "--mode", "full", "--dry-run")
    said(capsys, "--mode", "full")
    assert "Net revenue would stay as it is in every month." in said(capsys, "--mode", "full", "--dry-run")
    changes.apply(12, 3)
    words = said(capsys, "--dry-run")
    assert "(dry run), changes from" in words and "rows would be written; the warehouse is as it was." in words


def test_json_is_one_document(small_shop: None, capsys: pytest.CaptureFixture[str]) -> None:
    document: dict[str, Any] = json.loads(said(capsys, "--mode", "full", "--json"))
    assert document["status"] == "succeeded" and document["tables"]["fact_sales"]["rejected"] == 0
    assert said(capsys, "--quiet") == ""


def test_handed_to_the_workers_and_cancelled(small_shop: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.orchestration.worker.delivery.send_message", lambda *message: None)
    number = said(capsys, "--mode", "full", "--no-wait").strip()
    assert Run.objects.get(pk=number).state == State.QUEUED
    said(capsys, "--mode", "full", code=ExitCode.SKIPPED)
    assert said(capsys, "--cancel", number, "--reason", "wrong day") == f"Run {number} is cancelled.\n"
    run = Run.objects.get(pk=number)
    assert run.state == State.CANCELLED and "wrong day" in run.cause
    said(capsys, "--cancel", number, code=ExitCode.USAGE)


def test_migrate_all_says_what_it_did(transactional_db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("migrate_all")
    assert capsys.readouterr().out.count("nothing to do") == 6
