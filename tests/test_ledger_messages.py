"""What the ledger says in English is read in Ukrainian on a Ukrainian page; what nobody has declared stays as it is."""

import re

import psycopg
import pytest
from django.utils.translation import override

from apps.demo import faults, shop
from apps.orchestration import api
from apps.orchestration.models import CheckResult, Trigger
from techmarket.diagnosis import diagnose
from techmarket.messages import DECLARED, translate
from tests.conftest import Cli

# What is the same in every language: columns, listed values, programs and units.
NAMES = re.compile(
    r"[a-z]+(_[a-z]+)+|DECIMAL\(12,2\)|UTF-8|e-mail|\b(id|name|quantity|discount|amount|status|method|email|sku)\b|[A-Z]{5,}"
)


def ukrainian(said: str) -> str:
    with override("uk"):
        return translate(said)


def foreign(said: str) -> list[str]:
    """Words that are left in another language."""
    return re.findall(r"[A-Za-z]{2,}", NAMES.sub("", ukrainian(said)))


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_checks_of_a_shop_with_every_fault() -> None:
    shop.generate(60, 1)
    faults.plant()
    run = api.run("full")
    checks = CheckResult.objects.filter(run=run).values_list("name", "expected", "observed")
    assert checks and not [words for check in checks for words in check if foreign(words)]


def test_a_command_knows_what_the_pages_know(run_cli: Cli) -> None:
    """`report --language uk` runs without the admin."""
    counts = "from techmarket.messages import DECLARED; before = len(DECLARED); import apps.console.urls; print(before, len(DECLARED))"
    known, declared = run_cli("shell", "-v", "0", "-c", counts).stdout.split()
    assert known == declared


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_causes() -> None:
    run = api.start_run("full", Trigger.CLI, "olena")
    skipped = api.start_run("full", Trigger.API, "petro")
    assert ukrainian(skipped.cause).startswith(f"Пропущено: накладається на запуск {run.pk} (olena; у черзі від ")
    lost = diagnose(psycopg.OperationalError("connection failed: timeout"), "dwh")
    assert re.fullmatch(r"dwh \(.*\) не відповідає\. Запустіть його або виправте DWH_URL\.", ukrainian(str(lost)))
    deadlock = diagnose(psycopg.errors.DeadlockDetected("deadlock detected"), "default")
    assert re.fullmatch(r"база керування \(.*\): deadlock detected\. Повторіть запуск\.", ukrainian(str(deadlock)))


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("", ""),
        ("What nobody declared.", "What nobody declared."),
        ("Cancelled at the terminal. Nothing was published.", "Скасовано з термінала. Нічого не опубліковано."),
        ("Cancelled by olena: wrong day. Nothing was published.", "Скасовано (olena: wrong day). Нічого не опубліковано."),
        (
            "dwh (db:5432): deadlock; nothing was published. Run it again.",
            "dwh (db:5432): взаємне блокування; нічого не опубліковано. Повторіть запуск.",
        ),
        (
            "Blocking checks failed: fact_sales: share rejected: expected at most 0 % of 1492, observed 25; orders: balance: "
            "expected 6 read, observed 5 accounted for; and 2 more. Nothing was published.",
            "Перевірки не дозволили публікацію: fact_sales: частка відхилених: очікувано щонайбільше 0 % від 1492, виявлено 25; orders: "
            "баланс: очікувано прочитано 6, виявлено враховано 5; і ще 2. Нічого не опубліковано.",
        ),
        ("{place} <b>does not answer</b>", "{place} <b>does not answer</b>"),
    ],
)
def test_sentence(said: str, read: str) -> None:
    assert ukrainian(said) == read


def test_each_template_is_recognised_as_itself() -> None:
    """Or as one that says the same: the more words of its own a template has, the earlier it is tried."""
    for sentence in DECLARED:
        filled = re.sub(r"\{(\w+)\}", lambda hole: "" if hole[1] == "kept" else f"<{hole[1]}>", sentence)
        assert ukrainian(filled) != filled, sentence
